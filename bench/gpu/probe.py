"""Is everything here that burn's kernels need: a driver, NVRTC with its builtins, and the headers, all of versions that fit?

  python3 bench/gpu/probe.py

Compiles a small kernel as burn compiles its own, for the GPU that is there, and gives it to the driver, which must take it. Prints
one JSON object, or what is missing and how to get it. Headers come from CUDA_PATH, libraries from LD_LIBRARY_PATH. Needs nothing
but Python; takes a second.
"""

import ctypes
import json
import os
import sys
import time
from pathlib import Path

# What the sources of burn's kernels include, the last of these for copies by tensor map.
HEADERS = ("cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h", "mma.h", "cuda/barrier")
KERNEL = """
extern "C" __global__ void probe(__nv_bfloat16 *x) {
    nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> sum;
    nvcuda::wmma::fill_fragment(sum, 0.0f);
    x[threadIdx.x] = __float2bfloat16(sum.x[0]);
}
"""
# Versions of NVRTC's file name, the newest first, as burn's runtime looks for them.
NVRTC = ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12")
COMPUTE_CAPABILITY = (75, 76)  # the attributes of its two parts
UNSUPPORTED_PTX = 222


def library(names, remedy):
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            pass
    sys.exit(f"Error: {' or '.join(names)} cannot be loaded (LD_LIBRARY_PATH={os.environ.get('LD_LIBRARY_PATH', '')}); {remedy}")


def compiled(nvrtc, include, arch):
    """PTX of the kernel."""
    source = "".join(f"#include <{header}>\n" for header in HEADERS) + KERNEL
    program = ctypes.c_void_p()
    said = nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), None, 0, None, None)
    options = [f"--gpu-architecture={arch}", f"--include-path={include}", f"--include-path={include / 'cccl'}"]
    arguments = (ctypes.c_char_p * len(options))(*map(str.encode, options))
    said = said or nvrtc.nvrtcCompileProgram(program, len(options), arguments)
    if said == 7:
        sys.exit("Error: NVRTC does not find its builtins; libnvrtc-builtins.so must be beside it, in LD_LIBRARY_PATH")
    if said:
        size = ctypes.c_size_t()
        nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        nvrtc.nvrtcGetProgramLog(program, log)
        sys.exit(f"Error: NVRTC cannot compile for {arch} (error {said}): {log.value.decode(errors='replace')[:600]}")
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    return ptx


def main():
    # As libcuda.so only where there is no GPU and somebody stands in for its driver.
    driver = library(("libcuda.so.1", "libcuda.so"), "is this a machine with an NVIDIA GPU and its driver?")
    said = driver.cuInit(0)
    if said:
        sys.exit(f"Error: the CUDA driver does not start (error {said}); does `nvidia-smi` list a GPU?")
    version, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGet(ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(100)
    driver.cuDeviceGetName(name, 100, device)
    capability = [ctypes.c_int(), ctypes.c_int()]
    for part, attribute in zip(capability, COMPUTE_CAPABILITY):
        driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device)
    capability = ".".join(str(part.value) for part in capability)

    toolkit = Path(os.environ.get("CUDA_PATH", "/usr/local/cuda"))
    include = toolkit / "include"
    missing = [h for h in HEADERS if not (include / h).exists() and not (include / "cccl" / h).exists()]
    if missing:
        sys.exit(
            f"Error: {', '.join(missing)} not in {include} or its cccl; CUDA_PATH must name a toolkit with headers (in pip: "
            "nvidia-cuda-runtime, nvidia-cuda-crt, nvidia-cuda-cccl)"
        )
    nvrtc = library(NVRTC, f"name the folder of NVRTC in LD_LIBRARY_PATH; a toolkit has it in {toolkit}/lib64")
    major, minor = ctypes.c_int(), ctypes.c_int()
    nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    start = time.monotonic()
    arch = capability.replace(".", "")
    # burn adds the `a` from Hopper on.
    ptx = compiled(nvrtc, include, f"sm_{arch}{'a' if int(arch) >= 90 else ''}")
    seconds = time.monotonic() - start

    driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    driver.cuCtxSetCurrent(context)
    said = driver.cuModuleLoadData(ctypes.byref(ctypes.c_void_p()), ptx)
    versions = f"NVRTC {major.value}.{minor.value}, driver for CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    if said == UNSUPPORTED_PTX:
        sys.exit(f"Error: the driver does not know this NVRTC's PTX ({versions}); use an NVRTC no newer than the driver")
    if said:
        sys.exit(f"Error: the driver does not take the compiled kernel (error {said}; {versions})")
    print(
        json.dumps(
            dict(
                what="probe", gpu=name.value.decode(), capability=capability, versions=versions,
                toolkit=str(toolkit), kernel_compiled_s=round(seconds, 2),
            )
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
