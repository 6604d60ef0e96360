"""The WordPiece vocabulary of clips/recipes/scenes.toml: scenes_vocab.py SHARD.tar... > clips/recipes/scenes_vocab.txt

Shards are written by `cargo run --example scenes -- --format webdataset --images 6000 --image-size 16 --out FOLDER` (all words
of the captioned world occur there). The special tokens stand where CLIPS' vocabulary has them: fill 0, [bos] 1, [eos] 2.
"""

import json
import re
import string
import sys
import tarfile
from collections import Counter

words = Counter()
for path in sys.argv[1:]:
    with tarfile.open(path) as shard:
        for member in shard:
            if not member.name.endswith(".json"):
                continue
            for value in json.load(shard.extractfile(member)).values():
                for text in value if isinstance(value, list) else [value]:
                    if isinstance(text, str):
                        # As BERT splits: punctuation stands alone.
                        words.update(re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower()))

special = ["[PAD]", "[bos]", "[eos]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
characters = list(string.ascii_lowercase + string.digits + ".,!?'-_:;()&+/\"#%")
pieces = ["##" + c for c in string.ascii_lowercase + string.digits]
# File names are spelt.
common = sorted(word for word in words if words[word] >= 3 and not re.search(r"\d", word) and word not in characters)
print("\n".join(special + characters + pieces + common))
