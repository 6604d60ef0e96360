#!/usr/bin/env python3
"""Samples per second of one process and of two with half the batch each, a thread for each process, in turn.

    bench/dist/throughput.py OUT [--bin target/release/examples] [--steps 30] [--batch 128] [--rounds 3]

`train` must be built with the feature mpi. Prints medians, and how much of the time the first process spent exchanging.
"""

import argparse
import os
import re
import statistics
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]


def run(arguments, processes, round_):
    out = arguments.out / f"{processes}_{round_}"
    line = [arguments.bin / "train", "--recipe", HERE / "recipes/scenes.toml"]
    settings = {"run.out": out, "run.steps": arguments.steps, "schedule.warmup": 2, "log.progress": "false", "log.every": arguments.steps, "data.loader.workers": 1,
                "data.loader.batch_size": arguments.batch // processes}
    line += [f"--set={key}={value}" for key, value in settings.items()]
    if processes > 1:
        line = ["mpirun", "--allow-run-as-root", "-n", str(processes), *line, "--dist", "mpi"]
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    said = subprocess.run([str(part) for part in line], env=environment, capture_output=True, text=True, check=True).stderr
    seconds = float(re.search(r"steps in (\d+) s", said)[1])
    rate = float(re.findall(r"samples_per_second ([\d.]+)", said)[-1])
    exchanging = re.search(r"([\d.]+) s exchanging", said)
    return rate, float(exchanging[1]) / seconds if exchanging else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bin", type=Path, default=HERE / "target/release/examples")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    found = {1: [], 2: []}
    for round_ in range(arguments.rounds):
        for processes, measured in found.items():
            measured.append(run(arguments, processes, round_))
    alone = statistics.median(rate for rate, _ in found[1])
    print("| processes | samples/s | of one | exchanging |\n|---|---|---|---|")
    for processes, measured in found.items():
        rate, share = (statistics.median(column) for column in zip(*measured))
        print(f"| {processes} | {rate:.1f} | {rate / alone:.2f} | {100 * share:.0f} % |")


main()
