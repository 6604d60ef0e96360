#!/usr/bin/env bash
# Runs a program that was built with the feature `cuda` on a driver that compiles every kernel, runs none, and counts.
#   bench/gpu/null/run.sh PROGRAM [ARGUMENT...]
#   NULL_DRIVER_HOME  folder outside the repository for NVRTC, the driver and compiled kernels
#                     (default: clip-burn/null-driver in the user's cache); NVRTC comes from PyPI, 0.3 GB
# Errors of compilation, launches, copies and the host's time are those of a GPU; the numbers that come out are zeros. There is a
# cuBLASLt, too, for CLIP_BURN_CUBLASLT=1: it checks what it is asked for, and in which order.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
cache="${XDG_CACHE_HOME:-$HOME/.cache}"
folder="${NULL_DRIVER_HOME:-$cache/clip-burn/null-driver}"
fail() { echo "null driver: $*" >&2; exit 3; }
[ $# -gt 0 ] || fail "which program? bench/gpu/null/run.sh PROGRAM [ARGUMENT...]"
mkdir -p "$folder/driver"

# NVRTC and the headers that kernels include, of one version: that of the toolkit on the machines with a GPU.
version=13.0
if [ ! -f "$folder/complete-$version" ]; then
    command -v python3 >/dev/null || fail "NVRTC comes from PyPI: install python3 with pip"
    rm -rf "$folder/site"
    python3 -m pip --disable-pip-version-check install -q --no-deps --target "$folder/site" \
        "nvidia-cuda-nvrtc==$version.*" "nvidia-cuda-runtime==$version.*" "nvidia-cuda-crt==$version.*" "nvidia-cuda-cccl==$version.*" >&2 ||
        fail "NVRTC $version could not be had from PyPI (four packages, nvidia-cuda-*): is there a network, and pip for $(command -v python3)?"
    touch "$folder/complete-$version"
fi
if [ ! "$folder/driver/libcuda.so" -nt "$here/driver.c" ]; then
    command -v "${CC:-cc}" >/dev/null || fail "there is no C compiler (${CC:-cc}); install one, or name one in CC"
    # Under another name first: a program that runs may have the old one open. Not libcuda.so.1: NVRTC opens that by itself, for
    # functions that are not here.
    "${CC:-cc}" -shared -fPIC -O2 -Wall -o "$folder/driver/new" "$here/driver.c" -lpthread || fail "driver.c could not be compiled"
    mv "$folder/driver/new" "$folder/driver/libcuda.so"
fi
if [ ! "$folder/driver/libcublasLt.so" -nt "$here/cublaslt.c" ]; then
    "${CC:-cc}" -shared -fPIC -O2 -Wall -o "$folder/driver/new" "$here/cublaslt.c" -L"$folder/driver" -lcuda ||
        fail "cublaslt.c could not be compiled"
    mv "$folder/driver/new" "$folder/driver/libcublasLt.so"
fi

export CUDA_PATH="$folder/site/nvidia/cu13"
export LD_LIBRARY_PATH="$folder/driver:$CUDA_PATH/lib"
# Compiled kernels go with the version of NVRTC, not into the user's.
export XDG_CACHE_HOME="$folder/kernels-$version"
export NULL_DRIVER_HOME="$folder"
exec "$@"
