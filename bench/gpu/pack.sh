#!/usr/bin/env bash
# Builds what bench/gpu/run.sh needs into target/gpu, for a machine with a GPU and without Rust:
#   CUDARC_CUDA_VERSION=13000 bench/gpu/pack.sh [cuda|wgpu] [BUILD...]
# BUILD is plain and autotune (the default: stages A and B on burn's kernels), fusion+autotune, fusion, and
#   tch      the same program on LibTorch, which is found as docs/backends.md says; of the version of the machine with the GPU
#   scenes   the programs of the run on scenes, with autotune
#   kernels  kernels of the build plain for an H100, compiled here on the null driver (bench/gpu/null)
# Each takes ten minutes or more for the first time. CUDARC_CUDA_VERSION is the toolkit of that machine (12080 for CUDA 12.8).
# Carry target/gpu, bench/gpu and tests/fixtures/towers there.
set -euo pipefail
cd "$(dirname "$0")/../.."
backend="${1:-cuda}"
shift $(($# > 0))
builds=("$@")
[ $# -gt 0 ] || builds=(plain autotune)
out=target/gpu
release="${CARGO_TARGET_DIR:-target}/release/examples"
mkdir -p "$out"

build() { # features, example, name
    cargo build --release --locked --no-default-features --features "$1" --example "$2"
    strip -o "$out/$3" "$release/$2"
    xz -9 --force --threads=0 "$out/$3"
}

# Major and minor of the LibTorch that torch-sys finds, so that run.sh can say when another is there.
torch_version() {
    local folder="${LIBTORCH:-}"
    [ -n "$folder" ] || folder="$(python3 -c 'from importlib.util import find_spec; print(find_spec("torch").submodule_search_locations[0])')"
    grep -rhoE --include=version.h 'define TORCH_VERSION_(MAJOR|MINOR) [0-9]+' "$folder/include" | sort -u | awk '{ print $3 }' | paste -sd .
}

kernels() {
    local folder="${NULL_DRIVER_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/clip-burn/null-driver}" precision
    xz -dc "$out/gpu-plain.xz" >"$out/gpu-plain" && chmod +x "$out/gpu-plain"
    for precision in f32 bf16; do
        bench/gpu/null/run.sh "$out/gpu-plain" train --precision "$precision" --steps 1 --backend cuda
    done
    rm "$out/gpu-plain"
    # What autotune found here is nothing that a GPU would find.
    tar -C "$folder/kernels-13.0" -czf "$out/kernels-9.0.tar.gz" --exclude=autotune clip-burn/kernels
}

for name in "${builds[@]}"; do
    case "$name" in
    plain) build "$backend" gpu gpu-plain ;;
    tch) build tch gpu gpu-tch && torch_version >"$out/gpu-tch.version" ;;
    scenes) for example in train scenes; do build "$backend,autotune" $example $example; done ;;
    kernels) kernels ;;
    autotune | fusion | fusion+autotune) build "$backend,${name/+/,}" gpu "gpu-$name" ;;
    *) echo "\`$name\` is no build; there are plain, autotune, fusion+autotune, fusion, tch, scenes and kernels" >&2; exit 1 ;;
    esac
done
ls -l "$out"
