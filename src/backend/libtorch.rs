//! LibTorch: devices, threads, and whether it can be used here.

use super::TchDevice;
use burn_tch::LibTorchDevice;

/// As burn names it.
pub fn device(device: TchDevice) -> LibTorchDevice {
    match device {
        TchDevice::Cpu => LibTorchDevice::Cpu,
        TchDevice::Cuda(index) => LibTorchDevice::Cuda(index),
        TchDevice::Mps => LibTorchDevice::Mps,
    }
}

/// As many threads as everything else in this program uses: `RAYON_NUM_THREADS`, else one per core.
pub fn configure() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    crate::memory::keep_freed_by_torch();
    tch::set_num_threads(rayon::current_num_threads() as i32);
}

/// # Errors
///
/// If this LibTorch has no such device.
pub fn check(device: TchDevice) -> Result<(), String> {
    match device {
        TchDevice::Cpu => Ok(()),
        TchDevice::Cuda(index) => {
            let found = tch::Cuda::device_count();
            let there = i64::try_from(index).is_ok_and(|index| index < found);
            there.then_some(()).ok_or(format!(
                "tch:cuda:{index} cannot be used here: LibTorch sees {found} CUDA devices; does `nvidia-smi` list this \
                 GPU, and does LIBTORCH name a LibTorch with CUDA (a CPU-only one has no libtorch_cuda.so)?"
            ))
        }
        TchDevice::Mps => tch::utils::has_mps().then_some(()).ok_or(
            "tch:mps cannot be used here: this LibTorch has no Metal; on a Mac with Apple silicon let LIBTORCH name one \
             that has"
                .into(),
        ),
    }
}
