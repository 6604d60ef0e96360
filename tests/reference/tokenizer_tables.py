"""Writes the character tables that the text cleaner embeds.

    python tests/reference/tokenizer_tables.py

Reads ftfy 6.3.1 (Apache-2.0) and Python's `html.entities`; writes into `clip/assets/tokenizer/`:

- `html5_entities.tsv`: name, code points
- `mojibake_patterns.tsv`: name, regular expression in the syntax of Rust's `regex`
- `codepages.tsv`: encoding, the code points of the bytes 80..FF
- `characters.tsv`: code point, code points that replace it
"""

import html
import re
import unicodedata
from pathlib import Path

import ftfy
from ftfy import badness, chardata, fixes

OUT = Path("clip/assets/tokenizer")


def hexes(text):
    return " ".join(f"{ord(c):x}" for c in text)


def write(name, rows):
    lines = ["\t".join(row) for row in rows]
    (OUT / name).write_text("\n".join(lines) + "\n", encoding="ascii")
    print(name, len(lines))


def compact(pattern):
    """Verbose Python pattern -> plain Rust pattern, in ASCII."""
    out, in_class, i = [], False, 0
    while i < len(pattern):
        c = pattern[i]
        if c == "\\":
            escape = pattern[i : i + 2]
            i += 2
            if escape == "\\w":  # Python's \w has no combining marks
                out.append(r"[\p{L}\p{N}_]")
            elif escape == "\\s":  # Python counts the separators 1C..1F as space
                out.append(r"[\s\x1c-\x1f]")
            else:
                out.append(escape)
            continue
        i += 1
        if in_class:
            in_class = c != "]"
        elif c == "[":
            in_class = True
        elif c == "#":
            i = pattern.index("\n", i)
            continue
        elif c.isspace():
            continue
        out.append(c if ord(c) < 0x80 and c.isprintable() else f"\\x{{{ord(c):x}}}")
    return "".join(out)


def byte_pattern(pattern):
    """A pattern over bytes -> the same over the Latin-1 text of the bytes."""
    text = pattern.decode("latin-1")
    return "".join(c if 0x20 <= ord(c) < 0x7F else f"\\x{{{ord(c):x}}}" for c in text)


def characters():
    """One step for C1 controls, ligatures, widths and quotes, which ftfy applies one after the other."""
    rows = []
    for code in range(0x80, 0x110000):
        if 0xD800 <= code <= 0xDFFF:
            continue
        char = chr(code)
        fixed = fixes.fix_c1_controls(char)
        fixed = fixes.fix_latin_ligatures(fixed)
        fixed = fixes.fix_character_width(fixed)
        fixed = fixes.uncurl_quotes(fixed)
        if fixed != char:
            rows.append((f"{code:x}", hexes(fixed)))
    return rows


def codepages():
    for encoding in chardata.CHARMAP_ENCODINGS:
        yield encoding, hexes(bytes(range(0x80, 0x100)).decode(encoding))


if __name__ == "__main__":
    print("ftfy", ftfy.__version__, "Unicode", unicodedata.unidata_version)
    write("html5_entities.tsv", [(k, hexes(v)) for k, v in sorted(html.entities.html5.items())])
    write(
        "mojibake_patterns.tsv",
        [
            ("badness", compact(badness.BADNESS_RE.pattern)),
            ("utf8_detector", compact(chardata.UTF8_DETECTOR_RE.pattern)),
            ("altered_utf8", byte_pattern(chardata.ALTERED_UTF8_RE.pattern)),
            ("lossy_utf8", byte_pattern(chardata.LOSSY_UTF8_RE.pattern)),
            ("a_grave_word", byte_pattern(fixes.A_GRAVE_WORD_RE.pattern)),
        ],
    )
    write("codepages.tsv", codepages())
    write("characters.tsv", characters())
