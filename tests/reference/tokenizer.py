"""Writes `tests/fixtures/tokenizer_clip.jsonl.gz`: texts and the ids that open_clip gives them.

    python tests/reference/tokenizer.py
    python tests/reference/tokenizer.py --kind caption --count 100000 --out rows.jsonl.gz

The second form draws a larger set of one kind, which the ignored test `rows_of_a_larger_file` reads.
Each line is `[text, ids]`, ids without start and end token, cut at 80 (the context is 77). Needs open_clip_torch 3.3.0
and ftfy 6.3.1. The first lines are chosen by hand, the others are drawn with a fixed seed.
"""

import argparse
import gzip
import html
import html.entities
import io
import json
import random
import unicodedata
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer

OUT = Path("tests/fixtures/tokenizer_clip.jsonl.gz")
LIMIT = 80

GOLDEN = [
    "a photo of a cat", "a photo of a cat.", "a photo of the large goldfish.", "a bad photo of a tench.",
    "itap of a tench.", "hello world", "hello\u00a0world", "a diagram", "a dog", "a human", "It's 2024!!!",
    "don't  \t stop\n", "it's we've I'd", "The QUICK brown fox, 3.14% of $100!", "12345", "x_y-z", "a_b",
    "naïve café", "&amp;lt;b&gt;", "北京 🙂", "日本語のキャプション", "İstanbul", "ΟΔΥΣΣΕΥΣ",
    "supercalifragilisticexpialidocious", "don’t", "ﬁne", "ＡＢＣ", "cafÃ© society", "e\u0301tude", "",
    " ", "\u3000\t\r\n", "\ufeff", "!", "<start_of_text>", "a cat <end_of_text> and a dog", "<END_OF_TEXT>",
    "'s 'T 'll'VE 'x '", "\u017f 'ſ", "\u0345 α\u0345 ᾳ", "\x1c\x1d a\x1eb\x1f", "\x85x\x0by\x0cz",
    "&#0;&#128;&#xD800;&#x110000;&#1;&#xFDD0;", "&notit; &hearts &AMP &EACUTE; &nbsp;x", "<b>&amp;</b>\n&lt;",
    "P&EACUTE;REZ BUNDESSTRA&SZLIG;E", "&#150; &#x2019;", "â€œquotedâ€\x9d", "â€œlossyâ€\ufffd", "voilÃ le travail",
    "com especial atenÃ§Ã£o Ã s crianÃ§as", "âœ” ok", "\x1b[31mred\x1b[0m", "Ã©\nÃ©", "À\n", "Ã©À\n",
    "вЂ“ tip", "×‘×”×•×“×¢×”", "Ø±Ø³Ø§Ù„Ø©", "t‚Äö√†√∂¬¨¬©l√©charger", "l’ÃƒÂ©tÃƒÂ©", "\x91quoted\x92 \x96 \x85",
    "AHÅ™, the new sofa", "10 Å—", "(-1/2)! = √π", "ŉ Ǆ ĳ ﬆ ﬅ", "ﾀﾞ ﾊﾟ ￥ ﾡ", "👩‍👩‍👧‍👦 🇫🇷 🏳️‍🌈 👍🏽", "1½ ² Ⅷ ٣ ४ 〇",
    "a" * 500, "ab" * 300, "日本" * 200, "!?" * 200, "word " * 300, "é" * 300, "0" * 200,
]

WORDS = """a the of in on with and two three small large black white red blue green old young man woman child dog cat bird
horse car bus train street city beach mountain river sky table plate pizza cake flower tree house window photo picture
painting drawing close-up view background sitting standing riding holding eating walking wearing next near front
skateboarder snowboarding giraffe zebra elephant refrigerator microwave toothbrush umbrella surfboard frisbee kitchen
bathroom bedroom motorcycle airplane fire hydrant stop sign parking meter traffic light bench sheep cow bear backpack
handbag tie suitcase kite baseball bat glove tennis racket bottle wine glass cup fork knife spoon bowl banana apple
sandwich orange broccoli carrot donut chair couch potted plant bed toilet laptop mouse remote keyboard cell phone""".split()
NAMES = ["Café", "naïve", "São Paulo", "Zürich", "Đà Nẵng", "Kraków", "Malmö", "Łódź", "Reykjavík", "Åse", "Noël", "jalapeño",
         "O’Brien", "l’été", "“The Wall”", "rock ’n’ roll", "50–60", "—", "…", "5€", "£20", "¥", "™", "®", "©", "½", "°C", "×"]
ENTITIES = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&#x27;", "&apos;", "&nbsp;", "&eacute;", "&EACUTE;", "&hellip;", "&mdash;",
            "&amp;amp;", "&amp;quot;", "&copy", "&reg;", "&notin;", "&notit;", "&euro;", "&#8217;", "&#146;", "&#xFFFF;", "&bogus;",
            "&ampx", "&;", "&#;", "&#x;", "&#12345678901;", "&frac12;", "&NotEqualTilde;", "&acE;", "&Uuml;", "&UUML;", "&uuml"]
CONTRACTIONS = ["it's", "don't", "we've", "they're", "I'm", "you'll", "he'd", "IT'S", "DON'T", "o'clock", "'tis", "dogs'", "y'all've"]
EMOJI = ["🙂", "😀", "❤️", "👍🏽", "👩‍🚀", "🇯🇵", "🏴󠁧󠁢󠁷󠁬󠁳󠁿", "☕", "✨", "🔥", "⚽️", "☀", "🐶🐱", "1️⃣"]
SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u2028", "\u200b", "\u3000", "\x0b", "\x1f", "\x85", "\u202f", "\r"]
CONTROLS = ["\x00", "\x07", "\x1a", "\x1b[1;31m", "\x1b[", "\x7f", "\x80", "\x92", "\x9d", "\ufeff", "\ufffd", "\ufffc", "\u206a", "\u200d",
            "\u200e", "\u202e", "\u00ad", "\ufe0f"]
SPECIALS = ["<start_of_text>", "<end_of_text>", "<End_of_Text>", "<|endoftext|>", "<start_of_text", "</w>", "[SEP]", "<", ">"]
SCRIPTS = [(0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x370, 0x3FF), (0x400, 0x52F), (0x590, 0x5FF),
           (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1FFF), (0x2000, 0x206F),
           (0x20A0, 0x214F), (0x2150, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x25FF), (0x2600, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
           (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFB4F), (0xFE50, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x20FFF)]
WRONG = ["latin-1", "windows-1252", "sloppy-windows-1252", "sloppy-windows-1250", "sloppy-windows-1251", "sloppy-windows-1253",
         "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2", "macroman", "cp437"]
FOREIGN = ["l'été à la plage", "Größe über alles", "señor niño", "Привет мир", "Ελλάδα", "שלום עולם", "مرحبا", "“quoted” – it’s…", "日本語",
           "한국어", "🙂 ok", "ça va très bien", "João não está", "Žluťoučký kůň", "İğne", "Þórður", "100 € – 20 £", "naïve café", "ελληνικά",
           "ā ē ī ō ū", "hello"]


def assigned(rng):
    low, high = rng.choice(SCRIPTS)
    while True:
        char = chr(rng.randint(low, high))
        if unicodedata.category(char) not in ("Cn", "Cs", "Co"):
            return char


def caption(rng):
    words = [rng.choice(WORDS) for _ in range(rng.randint(3, 18))]
    if rng.random() < 0.5:
        words[0] = words[0].capitalize()
    if rng.random() < 0.3:
        words.insert(rng.randrange(len(words)), rng.choice(CONTRACTIONS))
    if rng.random() < 0.3:
        words.insert(rng.randrange(len(words)), str(rng.randint(0, 3000)))
    if rng.random() < 0.35:
        words.insert(rng.randrange(len(words)), rng.choice(NAMES))
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words)), rng.choice(EMOJI))
    if rng.random() < 0.1:
        words.insert(rng.randrange(len(words)), rng.choice(["&amp;", "&quot;", "&#39;"]))
    text = " ".join(words)
    return text + rng.choice(["", ".", "!", "...", ", really?"])


def mojibake(rng):
    text = " ".join(rng.choice(FOREIGN + NAMES) for _ in range(rng.randint(1, 4)))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        text = text.encode("utf-8").decode(rng.choice(WRONG), errors="replace")
    if rng.random() < 0.3:
        text = text.replace("\u00a0", " ")
    if rng.random() < 0.3:
        text = caption(rng) + " " + text
    return text


def mixture(rng):
    pools = [WORDS, NAMES, ENTITIES, CONTRACTIONS, EMOJI, SPACES, CONTROLS, SPECIALS, FOREIGN]
    parts = []
    for _ in range(rng.randint(1, 14)):
        parts.append(assigned(rng) if rng.random() < 0.25 else rng.choice(rng.choice(pools)))
        parts.append(rng.choice(["", " ", " ", rng.choice(SPACES)]))
    return "".join(parts)


def scripts(rng):
    return "".join(rng.choice([assigned(rng), assigned(rng), " ", "\u0301", "\u0345"]) for _ in range(rng.randint(1, 16)))


def run(rng):
    low, high = rng.choice(SCRIPTS)
    chars = (chr(rng.randint(low, high)) for _ in range(rng.randint(1, 12)))
    return "".join(c for c in chars if unicodedata.category(c) != "Cn")


def entities(rng):
    names = list(html.entities.html5)
    name = lambda: "&" + rng.choice(names) if rng.random() < 0.6 else f"&#{rng.choice(['', 'x'])}{rng.randint(0, 99999)}{rng.choice(['', ';'])}"
    return "".join(name() + rng.choice(["", " ", "a", ";", "<"]) for _ in range(rng.randint(1, 4)))


MAKERS = {"caption": (caption, 700), "mojibake": (mojibake, 600), "mixture": (mixture, 700),
          "scripts": (scripts, 350), "run": (run, 350), "entities": (entities, 200)}


def texts():
    rng = random.Random(20240229)
    yield from GOLDEN
    for make, count in MAKERS.values():
        for _ in range(count):
            yield make(rng)


def is_settled(tokenizer, text):
    """Whether all characters were assigned in Unicode 14; of newer ones each library knows a different set."""
    return all(unicodedata.category(c) != "Cn" for c in tokenizer.clean_fn(text))


def more(kind, count):
    rng = random.Random(7)
    return (MAKERS[kind][0](rng) for _ in range(count))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=MAKERS)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    tokenizer = SimpleTokenizer()
    chosen = more(args.kind, args.count) if args.kind else texts()
    rows = [[text, tokenizer.encode(text)[:LIMIT]] for text in chosen if is_settled(tokenizer, text)]
    lines = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as file:
        file.write(lines.encode("utf-8"))
    args.out.write_bytes(buffer.getvalue())
    print(args.out, len(rows), "rows", len(buffer.getvalue()), "bytes")
