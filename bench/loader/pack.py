"""Packs a folder of photographs (one sub-folder per class) into webdataset shards with captions.

    python bench/loader/pack.py PHOTOS OUT [SHARDS]

The caption is the file's name in words, the label its folder's place. Everything is deterministic.
"""

import io
import json
import pathlib
import sys
import tarfile


def add(archive, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def main(photos, out, shards=4):
    photos, out, shards = pathlib.Path(photos), pathlib.Path(out), int(shards)
    out.mkdir(parents=True, exist_ok=True)
    classes = sorted(folder for folder in photos.iterdir() if folder.is_dir())
    files = [
        (file, label)
        for label, folder in enumerate(classes)
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in (".jpg", ".jpeg")
    ]
    for shard in range(shards):
        with tarfile.open(out / f"{shard:05d}.tar", "w") as archive:
            for index in range(shard, len(files), shards):
                file, label = files[index]
                words = file.stem.split("_")[1:] or [file.stem]
                caption = "a photo of a " + " ".join(words).lower()
                key = f"{index:07d}"
                add(archive, f"{key}.jpg", file.read_bytes())
                add(archive, f"{key}.txt", caption.encode())
                add(archive, f"{key}.json", json.dumps({"caption": caption, "key": key}).encode())
                add(archive, f"{key}.cls", str(label).encode())
    print(f"{len(files)} photographs in {shards} shards under {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
