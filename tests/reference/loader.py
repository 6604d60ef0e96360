"""What the Python libraries read from shards: expansions of patterns, and the samples of a small archive.

    python tests/reference/loader.py      (from the repository root)

Writes tests/fixtures/loader/: `braces.json` by braceexpand, `shard.tar` by webdataset's writer and tarfile's pax
format, and `shard.json` with what webdataset reads from it.
"""

import io
import json
import pathlib
import tarfile

import braceexpand
import webdataset as wds

OUT = pathlib.Path("tests/fixtures/loader")

PATTERNS = [
    "shards-{00000..00003}.tar", "{9..11}", "{3..1}", "{0..10..5}", "{a..e..2}", "{08..11}", "{1..003}",
    "{a,b}{1,2}", "x{a,b{1..2},}y", "{x}.tar", "{}", "{1..}", "a,b", "{-2..1}", "{a,{b,c}d}-{0..1}.tar",
]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    braces = {pattern: list(braceexpand.braceexpand(pattern)) for pattern in PATTERNS}
    (OUT / "braces.json").write_text(json.dumps(braces, indent=1) + "\n")

    members = []
    for i in range(3):
        members += [(f"{i:04d}.JPG", bytes([i] * (300 + i))), (f"{i:04d}.txt", f"caption {i}".encode())]
    members += [
        ("a.b/c.d/0003.seg.png", b"mask"), ("a.b/c.d/0003.jpg", b"image"), ("./0004.jpg", b"dot"),
        ("long/" + "n" * 150 + "/0005.jpg", b"long"), ("long/" + "ü" * 90 + "/0006.jpg", b"umlauts"),
    ]
    with tarfile.open(OUT / "shard.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        folder = tarfile.TarInfo("a.b")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    read = []
    for sample in wds.WebDataset(str(OUT / "shard.tar"), shardshuffle=False):
        fields = {name: value.decode("latin-1") for name, value in sample.items() if not name.startswith("__")}
        read.append({"key": sample["__key__"], "members": fields})
    (OUT / "shard.json").write_text(json.dumps(read, indent=1) + "\n")


if __name__ == "__main__":
    main()
