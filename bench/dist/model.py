#!/usr/bin/env python3
"""A model of what a step's exchange costs on many GPUs; not a measurement. The table of docs/scale-out.md.

    bench/dist/model.py [--rate 0.94]

Bytes are counted, rates are constants:
  host     all-reduce of 64 MiB by two processes on one machine through host memory (`exchange`, measured), GB/s per process
  nvlink   450 GB/s, each direction, per GPU in a node of eight (NVIDIA H100 SXM data sheet: NVLink 900 GB/s in all)
  network  50 GB/s per GPU between nodes (DGX H100 data sheet: eight ports of 400 Gb/s)
A ring of n moves 2 (n - 1) / n of the bytes for a sum, (n - 1) / n for a gather, and so for a reduce-scatter. Nothing overlaps.
"""

import argparse

PARAMETERS = 151.3e6  # ViT-B/32 with its text tower
DIM = 512
PER_GPU = 256


def seconds(n, sum_rate, gather_rate):
    ring = (n - 1) / n
    reduce = 2 * ring * 4 * PARAMETERS / sum_rate
    rows = 2 * 4 * DIM * PER_GPU * n  # of both towers, all
    return reduce, 2 * ring * rows / gather_rate  # there, and their gradients back


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=0.94, help="GB/s of `exchange`'s all-reduce of 64 MiB by two processes")
    rate = parser.parse_args().rate * 1e9  # of a ring of two: as many bytes as are summed
    print("| GPUs | batch | logits of a process | host: gradients | host: embeddings | devices: gradients | devices: embeddings |")
    print("|---|---|---|---|---|---|---|")
    for n in (8, 16, 64, 256, 1024):
        device = 450e9 if n <= 8 else 50e9
        cells = [1e3 * s for s in (*seconds(n, rate, rate), *seconds(n, device, device))]
        logits = PER_GPU * PER_GPU * n
        print(f"| {n} | {PER_GPU * n:,} | {logits / 1e6:.1f} M | " + " | ".join(f"{c:,.1f} ms" for c in cells) + " |")


main()
