#!/usr/bin/env bash
# Loader throughput side by side: this project, and webdataset + torchvision under PyTorch.
#
#   PYTHON=python bench/loader/compare.sh [PHOTOS] [WORKERS] [BATCH] [SECONDS] [ROUNDS]
#
# The runs alternate, so that a change of load hits both; each line is one run.
set -euo pipefail
cd "$(dirname "$0")/../.."
photos=${1:-../shared/photos} workers=${2:-2} batch=${3:-64} seconds=${4:-15} rounds=${5:-3}
python=${PYTHON:-python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" bench/loader/pack.py "$photos" "$work" 4
cargo build --release -q --example loader_throughput
ours=${CARGO_TARGET_DIR:-target}/release/examples/loader_throughput
shards="$work/{00000..00003}.tar"
for mode in train eval jitter; do
    for _ in $(seq "$rounds"); do
        echo "$mode  ours            $("$ours" "$shards" "$mode" "$workers" "$batch" "$seconds")"
        echo "$mode  ours, batches   $("$ours" "$shards" "$mode" "$workers" "$batch" "$seconds" batch)"
        echo "$mode  pytorch, u8     $("$python" bench/loader/peer.py "$shards" "$mode" "$workers" "$batch" "$seconds" 2>/dev/null)"
        echo "$mode  pytorch, float  $("$python" bench/loader/peer.py "$shards" "$mode" "$workers" "$batch" "$seconds" float 2>/dev/null)"
    done
done
