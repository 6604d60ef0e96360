#!/usr/bin/env bash
# Builds what bench/gpu/run.sh needs into target/gpu, for a machine with a GPU and without Rust:
#   CUDARC_CUDA_VERSION=13000 bench/gpu/pack.sh [cuda|wgpu] [BUILD...]
# BUILD is fusion+autotune, autotune, fusion or plain; all four by default. CUDARC_CUDA_VERSION is the toolkit of that
# machine (12080 for CUDA 12.8). Carry target/gpu, bench/gpu and tests/fixtures/towers there.
set -euo pipefail
cd "$(dirname "$0")/../.."
backend="${1:-cuda}"
shift $(($# > 0))
builds=("$@")
[ $# -gt 0 ] || builds=(autotune fusion+autotune plain fusion)
out=target/gpu
release="${CARGO_TARGET_DIR:-target}/release/examples"
mkdir -p "$out"

build() { # features, example, name
    cargo build --release --locked --no-default-features --features "$1" --example "$2"
    strip -o "$out/$3" "$release/$2"
    xz -9 --force --threads=0 "$out/$3"
}

for name in "${builds[@]}"; do
    features="$backend"
    [ "$name" = plain ] || features="$backend,${name/+/,}"
    build "$features" gpu "gpu-$name"
done
# The run on scenes uses the first of the builds.
features="$backend"
[ "${builds[0]}" = plain ] || features="$backend,${builds[0]/+/,}"
for example in train eval scenes; do
    build "$features" "$example" "$example"
done
ls -l "$out"
