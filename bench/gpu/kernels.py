"""Launches and time of each kernel in one training step, from logs of burn's GPU runtime.

  python3 bench/gpu/kernels.py SHORT.log LONG.log STEPS > kernels.md

LONG has STEPS steps more than SHORT, and is otherwise the same; that gives the launches of a step. The times are those
of the last ten steps in LONG, where everything has been compiled and tuned. The logs come from a cubecl.toml with
[profiling.logger] level = "basic" and a file. Each kernel is timed alone, so the sum is more than a step takes. Needs
nothing but Python.
"""

import re
import sys
from collections import Counter

UNITS = {"s": 1e3, "ms": 1.0, "µs": 1e-3, "ns": 1e-6}
LINE = re.compile(r"^\|\s*([\d.]+)(s|ms|µs|ns)\s*\|\s*(.*)$")
# Parts of a name that every kernel has, or that say nothing about what it does.
NOISE = re.compile(r"Tensor(Args|Arg)|Dynamic\w+|__\w+|\(\)|Option|\w+Runtime")
SHOWN = 25
LAST = 10


def read(path):
    """Name and milliseconds of every launch."""
    launches = []
    for line in open(path, encoding="utf-8", errors="replace"):
        if match := LINE.match(line):
            number, unit, name = match.groups()
            parts = [part.strip() for part in name.split("|")]
            name = " ".join(part for part in parts if part and not NOISE.fullmatch(part))[:90]
            launches.append((name, float(number) * UNITS[unit]))
    return launches


def main():
    short, long, steps = read(sys.argv[1]), read(sys.argv[2]), int(sys.argv[3])
    per_step = (len(long) - len(short)) // steps
    counts, times = Counter(), Counter()
    for name, time in long[-LAST * per_step :]:
        counts[name] += 1
        times[name] += time
    total = sum(times.values())
    row = lambda name, count, time: f"| {name} | {count / LAST:.1f} | {time / LAST:.3f} | {time / total:.1%} |"
    print("| kernel | launches per step | ms per step | share |\n| --- | ---: | ---: | ---: |")
    for name, time in times.most_common(SHOWN):
        print(row(name, counts[name], time))
    rest = [name for name, _ in times.most_common()[SHOWN:]]
    if rest:
        print(row(f"{len(rest)} others", sum(counts[name] for name in rest), sum(times[name] for name in rest)))
    print(row("**all**", sum(counts.values()), total))


if __name__ == "__main__":
    main()
