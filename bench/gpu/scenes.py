"""What a run on the built-in world came to, as Markdown: speed, validation, memory. Needs nothing but Python.

  python3 bench/gpu/scenes.py RUN [MEMORY.csv]

RUN is the folder of the run; MEMORY.csv has one number per line, MiB in use by the GPU every few seconds.
"""

import json
import sys
from pathlib import Path
from statistics import median


def main():
    run = Path(sys.argv[1])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    training = [row for row in rows if row["kind"] == "train"]
    speeds = [row["speed"]["samples_per_second"] for row in training]
    waits = [row["speed"]["wait_share"] for row in training]
    losses = [(row["step"], row["values"]["loss"]) for row in training]
    print("\n## A run on the built-in world\n")
    print(f"{losses[-1][0]} steps; loss {losses[0][1]:.3f} at step {losses[0][0]}, {losses[-1][1]:.3f} at the end.")
    print(f"{median(speeds):.0f} samples/s, {median(waits):.1%} of the time waiting for data (medians of the log).")
    print(f"Curves: {run}/report.html\n")
    for line in (run / "log.txt").read_text().splitlines():
        if "resumed from" in line:
            print(f"- {line}")
    validations = [row for row in rows if row["kind"] == "validation"]
    names = list(dict.fromkeys(name for row in validations for name in row["values"]))
    if validations:
        print("\n| step | " + " | ".join(names) + " |\n|" + " --- |" * (1 + len(names)))
    for row in validations:
        cells = (f"{row['values'][name]:.4f}" if name in row["values"] else "–" for name in names)
        print(f"| {row['step']} | " + " | ".join(cells) + " |")
    if len(sys.argv) > 2 and Path(sys.argv[2]).exists():
        used = [int(line) for line in Path(sys.argv[2]).read_text().split() if line.isdigit()]
        late = used[len(used) // 4 :]
        if late:
            print(f"\nMemory of the GPU after the first quarter of the run: {min(late)} to {max(late)} MiB, last {late[-1]} MiB.")


if __name__ == "__main__":
    main()
