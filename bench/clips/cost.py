"""Time and memory of a step with and without the captioner, at the same batch: cost.py TRAIN [ROUNDS]

TRAIN is the `train` program. Runs the arms in turn, on one thread, for a few and for more steps; prints the CPU seconds that a
step takes beyond the start, as medians over the rounds, and the peak of memory.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
CAPTIONER = "captioner = { width = 128, layers = 2, heads = 4, queries = 72"
ARMS = {
    "one text": 'texts = ["web"]',
    "two texts": 'texts = ["web", "partial"]',
    "two texts, captioner": f'texts = ["web", "partial"], {CAPTIONER} }}',
    "two texts, captioner that reads its words": f'texts = ["web", "partial"], {CAPTIONER}, decoder = "autoregressive" }}',
}
FEW, MORE = 2, 8


def run(train, method, steps, out):
    """CPU seconds and peak memory in MiB."""
    command = [train, "--recipe", HERE / "clips/recipes/scenes.toml", "--set", f"run.out={out}", "--set", f"run.steps={steps}",
               "--set", "schedule.warmup=1", "--set", "log.progress=false", "--set", "data.loader.workers=1",
               "--set", f'method={{ name = "clips", {method} }}']
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main():
    train, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3
    seconds, peaks = {name: [] for name in ARMS}, {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(rounds):
            for name, method in ARMS.items():
                few, _ = run(train, method, FEW, Path(folder) / f"{index}_{len(name)}_few")
                more, peak = run(train, method, MORE, Path(folder) / f"{index}_{len(name)}_more")
                seconds[name].append((more - few) / (MORE - FEW))
                peaks[name].append(peak)
    first = statistics.median(next(iter(seconds.values())))
    print("| per step of 128 images | CPU s | of the first | peak memory, MiB |\n|---|---|---|---|")
    for name in ARMS:
        median = statistics.median(seconds[name])
        print(f"| {name} | {median:.2f} | {median / first:.1f} | {statistics.median(peaks[name]):.0f} |")


if __name__ == "__main__":
    main()
