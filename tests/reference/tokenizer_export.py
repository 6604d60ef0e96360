"""Checks a directory written by `Tokenizer::save` with Python's `tokenizers`.

    python tests/reference/tokenizer_export.py DIR

Compares the ids of clean texts with those of `tests/fixtures/tokenizer_clip.jsonl.gz`, and, where `transformers` is
installed, loads the directory as a `CLIPTokenizerFast`.
"""

import gzip
import json
import sys
from pathlib import Path

from tokenizers import Tokenizer

directory = Path(sys.argv[1])
tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
compared = 0
for line in gzip.open("tests/fixtures/tokenizer_clip.jsonl.gz", "rt", encoding="utf-8"):
    text, ids = json.loads(line)
    # ASCII captions need no repair; markup, references and special spellings do.
    if not (text.isascii() and text.isprintable()) or any(c in text for c in "&<>") or len(ids) > 70:
        continue
    got = tokenizer.encode(text).ids
    assert got == [49406, *ids, 49407], (text, got, ids)
    compared += 1
assert compared > 300, compared
print(compared, "texts equal")

if "--transformers" in sys.argv:
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(str(directory))
    row = loaded("a photo of a cat", padding="max_length", max_length=9)["input_ids"]
    assert row == [49406, 320, 1125, 539, 320, 2368, 49407, 49407, 49407], row
    print(type(loaded).__name__, "loads it")
