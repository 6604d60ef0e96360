#!/usr/bin/env python3
"""Instructions of three fixed pieces of work, counted by callgrind: a figure that no other load on the machine changes.

    cargo build --examples
    python3 bench/instructions.py [--bin target/debug/examples] [--write]

Each piece runs twice, the second time with more of the same; the difference, divided, is the cost of one. On one thread. Valgrind knows
no AVX-512, so kernels and products run with AVX2. Compared with bench/instructions.json, which --write replaces; a change of some
percent wants a reason.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNTS = ROOT / "bench/instructions.json"
WORLD = ["--image-size", "48", "--shapes", "6", "--colours", "6", "--max-objects", "2"]


def train(folder, steps):
    """A step of 8 pairs of recipes/scenes.toml, data and optimizer included."""
    settings = {"run.steps": steps, "run.out": folder / f"run_{steps}", "schedule.warmup": 0, "data.loader.batch_size": 8,
                "data.loader.workers": 1, "log.progress": "false", "checkpoint.every": 1000}
    return ["train", "--recipe", ROOT / "recipes/scenes.toml", *(f"--set={key}={value}" for key, value in settings.items())]


def embed(folder, images):
    """An image of 48 pixels through decoding, preprocessing and the tower of `scenes`."""
    names = sorted((folder / "images").rglob("*.png"))[:images]
    listed = folder / f"{images}.txt"
    listed.write_text("".join(f"{name}\n" for name in names))
    return ["embed", "--model", "scenes", "--images", listed, "--out", folder / f"{images}.safetensors", "--batch-size", "8"]


def vectors(folder, texts):
    """A caption of eight words through a language model of two layers."""
    listed = folder / f"texts_{texts}.txt"
    listed.write_text("".join(f"caption {i} of a red dog on grass\n" for i in range(texts)))
    return ["embed_captions", "--llm", ROOT / "tests/fixtures/llm/encoder/cc", "--input", listed, "--out", folder / f"store_{texts}"]


WORK = {"training step": (train, 1, 3), "image embedding": (embed, 8, 24), "caption vector": (vectors, 32, 96)}


def count(programs, command):
    command = [programs / command[0], *command[1:]]
    with tempfile.NamedTemporaryFile() as out:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}"]
        environment = dict(os.environ, RAYON_NUM_THREADS="1", MIMALLOC_PURGE_DELAY="-1")
        run = subprocess.run([*tool, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", run.stderr)
        if run.returncode or not found:
            sys.exit(f"{' '.join(map(str, command))} ended with {run.returncode}:\n{run.stderr[-2000:]}")
        return int(found[1])


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--bin", type=Path, default=ROOT / "target/debug/examples")
    flags.add_argument("--write", action="store_true", help="replace bench/instructions.json")
    o = flags.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed")
    known = json.loads(COUNTS.read_text())["millions"] if COUNTS.is_file() else {}
    millions = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        make = [o.bin / "scenes", "--format", "imagenet", "--split", "test", "--images", "24", "--out", folder / "images", *WORLD]
        subprocess.run([str(word) for word in make], check=True, cwd=ROOT, capture_output=True)
        for name, (work, few, many) in WORK.items():
            low, high = (count(o.bin, work(folder, n)) for n in (few, many))
            millions[name] = round((high - low) / (many - few) / 1e6, 2)
            before = f", {millions[name] / known[name] - 1:+.1%}" if name in known else ""
            print(f"{name}: {millions[name]} million instructions{before}", flush=True)
    if o.write:
        about = {name: work.__doc__ for name, (work, _, _) in WORK.items()}
        made = {"command": "python3 bench/instructions.py --write", "about": about, "millions": millions}
        COUNTS.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
