#!/usr/bin/env python3
"""A week in miniature: a tiny model trained for many steps, with validations and checkpoints, and what the process holds meanwhile.

    cargo build --examples
    bench/recovery/week.py OUT [--steps 20000] [--bin target/debug/examples]

Every two seconds the resident memory, the open files, the logs and the folder of the run are looked at. Prints a table in Markdown, and
fails if the process takes more memory or holds more files after the first quarter of the steps than it did within it, beyond
MEMORY and FILES. Linux only.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What may come on top after the first quarter: MiB of memory, and open files, of which a checkpoint or a validation has some.
MEMORY, FILES = 16, 8
SECONDS = 2
SMALL = ["--image-size", "32", "--shapes", "2", "--colours", "3", "--max-objects", "1"]

RECIPE = """
[run]
out = "run"
steps = STEPS
ema = 0.99
[model]
name = "tiny"
[method]
name = "laclip"
rewrites = 4
[optimizer]
lr = 1e-3
[schedule]
warmup = 100
[data.loader]
batch_size = 4
workers = 1
[data.augment]
scale = [0.6, 1.0]
[[data.sources]]
kind = "scenes"
world = { image_size = 32, train_size = 41, shapes = 2, colours = 3, max_objects = 1 }
[checkpoint]
every = CHECKPOINT
keep = 3
best = "pairs_image_retrieval_recall@5"
[log]
every = 10
validate_every = VALIDATE
progress = false
[[validation.zero_shot]]
name = "classes"
dataset = "folder"
root = "classes/images"
classnames = "classes/classnames.txt"
templates = "classes/templates.txt"
[[validation.retrieval]]
name = "pairs"
format = "karpathy"
split = "val"
annotations = "pairs/dataset_scenes.json"
images = "pairs/images"
recall_k = [1, 5]
"""


def size(path):
    """Bytes of a file, or of all files in a folder; what goes while it is looked at counts nothing."""
    try:
        return sum(size(inner) for inner in path.iterdir()) if path.is_dir() else path.stat().st_size
    except FileNotFoundError:
        return 0


def look(process, run):
    """A sample, or none once the process is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
        files = len(os.listdir(f"/proc/{process}/fd"))
        memory = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) / 1024
    except (OSError, StopIteration):
        return None
    lines = (run / "metrics.jsonl").read_bytes().splitlines() if (run / "metrics.jsonl").is_file() else []
    steps = [json.loads(line)["step"] for line in lines[-1:] if line.endswith(b"}")]
    logs = sum(size(path) for path in run.glob("*") if path.is_file())
    logs += sum(size(path) for path in run.glob("**/events.out.tfevents*") if path.parent != run)
    return {"step": steps[0] if steps else 0, "memory": memory, "files": files, "logs": logs, "run": size(run)}


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("out", type=Path, help="a new folder")
    flags.add_argument("--steps", type=int, default=20_000)
    flags.add_argument("--bin", type=Path, default=ROOT / "target/debug/examples", help="folder of the built examples")
    arguments = flags.parse_args()
    out, bin, steps = arguments.out.absolute(), arguments.bin.absolute(), arguments.steps
    out.mkdir(parents=True)
    for format, folder in (("imagenet", "classes"), ("karpathy", "pairs")):
        command = [bin / "scenes", "--format", format, "--split", "validation", "--images", "24", "--out", out / folder, *SMALL]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    every = {"STEPS": steps, "CHECKPOINT": max(steps // 80, 1), "VALIDATE": max(steps // 40, 1)}
    recipe = RECIPE
    for word, number in every.items():
        recipe = recipe.replace(word, str(number))
    (out / "recipe.toml").write_text(recipe)

    samples, begin = [], time.time()
    with (out / "said.txt").open("w") as said:
        command = [bin / "train", "--recipe", out / "recipe.toml"]
        process = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "RAYON_NUM_THREADS": "1"})
        while process.poll() is None:
            sample = look(process.pid, out / "run")
            samples += [{**sample, "time": time.time() - begin}] if sample else []
            time.sleep(SECONDS)
    seconds = time.time() - begin
    if process.returncode != 0:
        sys.exit(f"train ended with {process.returncode}: {(out / 'said.txt').read_text()[-2000:]}")

    print("| steps | | minutes | memory, MiB | open files | logs, KiB | folder of the run, MiB |\n|---|---|---|---|---|---|---|")
    for part in (1, 25, 50, 75, 100):
        reached = [sample for sample in samples if sample["step"] >= part / 100 * steps]
        sample = reached[0] if reached else samples[-1]
        print(f"| {sample['step']} | {part} % | {sample['time'] / 60:.1f} | {sample['memory']:.1f} | {sample['files']} "
              f"| {sample['logs'] / 1024:.0f} | {sample['run'] / 2**20:.1f} |")
    first = [sample for sample in samples if 0 < sample["step"] <= steps / 4]
    later = [sample for sample in samples if sample["step"] > steps / 4]
    if not first or not later:
        sys.exit("it was over too soon to say anything: give more --steps")
    grown = {what: max(sample[what] for sample in later) - max(sample[what] for sample in first) for what in ("memory", "files")}
    print(f"\n{steps} steps in {seconds / 60:.1f} minutes, a checkpoint every {every['CHECKPOINT']}, a validation every {every['VALIDATE']}. "
          f"Most after the first quarter less most within it: {grown['memory']:+.1f} MiB (at most {MEMORY}), "
          f"{grown['files']:+d} files (at most {FILES}).")
    sys.exit(grown["memory"] > MEMORY or grown["files"] > FILES)


if __name__ == "__main__":
    main()
