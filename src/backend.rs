//! The one place that names backends: from a `--backend` flag to a type.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod kernel_cache;
#[cfg(feature = "tch")]
mod libtorch;

use burn::backend::Autodiff;
use burn::prelude::Backend;
use burn::tensor::backend::AutodiffBackend;
use clip::Precision;
use std::fmt;
use std::str::FromStr;

/// Work that can run on any backend, chosen by [`with_backend`].
pub trait Job {
    /// What the work gives.
    type Out;

    /// Does the work. `Autodiff<B>` can train.
    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>;
}

/// A backend by name. Only those compiled in can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendArg {
    /// CPU, the everyday backend.
    Flex,
    /// CPU, the second opinion.
    NdArray,
    /// GPU by WebGPU.
    Wgpu,
    /// NVIDIA GPU by its index.
    Cuda(usize),
    /// LibTorch, PyTorch's own kernels.
    Tch(TchDevice),
}

/// Where LibTorch computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TchDevice {
    /// The CPU.
    #[default]
    Cpu,
    /// NVIDIA GPU by its index.
    Cuda(usize),
    /// Apple's GPU.
    Mps,
}

/// Names of the backends in this build, the fastest first.
pub fn compiled_in() -> Vec<&'static str> {
    let all = [
        ("cuda", cfg!(feature = "cuda")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("tch", cfg!(feature = "tch")),
        ("flex", cfg!(feature = "flex")),
        ("ndarray", cfg!(feature = "ndarray")),
    ];
    all.into_iter()
        .filter_map(|(name, enabled)| enabled.then_some(name))
        .collect()
}

/// Features of this build.
pub fn features() -> Vec<String> {
    let all = [
        ("autotune", cfg!(feature = "autotune")),
        ("cuda", cfg!(feature = "cuda")),
        ("flex", cfg!(feature = "flex")),
        ("fusion", cfg!(feature = "fusion")),
        ("hub", cfg!(feature = "hub")),
        ("mpi", cfg!(feature = "mpi")),
        ("nccl", cfg!(feature = "nccl")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("parquet", cfg!(feature = "parquet")),
        ("tch", cfg!(feature = "tch")),
        ("wgpu", cfg!(feature = "wgpu")),
    ];
    let on = all.into_iter().filter(|(_, enabled)| *enabled);
    on.map(|(name, _)| name.to_string()).collect()
}

/// How this build makes kernels for a GPU: `fusion`, `autotune`, both joined by `+`, or `plain`; and `+cublaslt` where that does the
/// products.
pub fn kernels(backend: BackendArg) -> String {
    let kernels = match (cfg!(feature = "fusion"), cfg!(feature = "autotune")) {
        (true, true) => "fusion+autotune",
        (true, false) => "fusion",
        (false, true) => "autotune",
        (false, false) => "plain",
    };
    match (backend, cublaslt()) {
        (BackendArg::Cuda(_), Ok(true)) => format!("{kernels}+cublaslt"),
        _ => kernels.to_string(),
    }
}

/// Whether products on CUDA are cuBLASLt's: if `CLIP_BURN_CUBLASLT=1` asks for that.
///
/// # Errors
///
/// It asks, and it cannot be.
fn cublaslt() -> Result<bool, String> {
    if std::env::var_os("CLIP_BURN_CUBLASLT").is_none_or(|value| value != "1") {
        return Ok(false);
    }
    #[cfg(all(feature = "cuda", not(feature = "fusion")))]
    let on = kernels_cube::use_cublaslt();
    #[cfg(not(all(feature = "cuda", not(feature = "fusion"))))]
    let on = Err("this build is not for CUDA, or has burn's fusion".to_string());
    on.map_err(|why| format!("CLIP_BURN_CUBLASLT=1, and cuBLASLt cannot be used: {why}"))?;
    Ok(true)
}

impl FromStr for BackendArg {
    type Err = String;

    fn from_str(argument: &str) -> Result<Self, String> {
        let (name, index) = argument
            .split_once(':')
            .map_or((argument, None), |(n, i)| (n, Some(i)));
        let backend = match (name, index) {
            ("cpu", None) => cpu()?,
            ("flex", None) => Self::Flex,
            ("ndarray", None) => Self::NdArray,
            ("wgpu", None) => Self::Wgpu,
            ("cuda", None) => Self::Cuda(0),
            ("cuda", Some(index)) => Self::Cuda(gpu(index)?),
            ("tch", None | Some("cpu")) => Self::Tch(TchDevice::Cpu),
            ("tch", Some("cuda")) => Self::Tch(TchDevice::Cuda(0)),
            ("tch", Some("mps")) => Self::Tch(TchDevice::Mps),
            ("tch", Some(device)) if device.starts_with("cuda:") => {
                Self::Tch(TchDevice::Cuda(gpu(&device["cuda:".len()..])?))
            }
            _ => {
                return Err(format!(
                    "`{argument}` is no backend; choose cpu, flex, ndarray, wgpu, cuda[:N], tch, tch:cuda[:N] or tch:mps"
                ));
            }
        };
        if name != "cpu" && !compiled_in().contains(&name) {
            return Err(format!(
                "this build has no {name} backend (it has {}); build with `--features {name}`",
                compiled_in().join(", ")
            ));
        }
        Ok(backend)
    }
}

/// The backend that computes on the CPU, whichever this build has.
fn cpu() -> Result<BackendArg, String> {
    let built = compiled_in();
    let name = ["flex", "tch", "ndarray"]
        .into_iter()
        .find(|name| built.contains(name));
    let name = name.ok_or("this build has no backend for the CPU; build with `--features flex`")?;
    name.parse()
}

fn gpu(index: &str) -> Result<usize, String> {
    let parsed = index.parse();
    parsed.map_err(|_| format!("`{index}` is not the index of a GPU"))
}

impl fmt::Display for BackendArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flex => f.write_str("flex"),
            Self::NdArray => f.write_str("ndarray"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Tch(TchDevice::Cpu) => f.write_str("tch"),
            Self::Tch(TchDevice::Cuda(index)) => write!(f, "tch:cuda:{index}"),
            Self::Tch(TchDevice::Mps) => f.write_str("tch:mps"),
        }
    }
}

impl Default for BackendArg {
    fn default() -> Self {
        let first = compiled_in().first().and_then(|name| name.parse().ok());
        first.unwrap_or(Self::Flex)
    }
}

/// Has layers use the fast kernels that backends of this build bring along. [`with_backend`] does it; a program that names such a
/// backend by its type does it before its first model runs. Again is harmless.
pub fn register_kernels() {
    #[cfg(feature = "tch")]
    kernels_tch::register();
    // With fusion burn's tensors are of another type, and its own operations compute.
    #[cfg(all(feature = "wgpu", not(feature = "fusion")))]
    kernels_cube::register::<burn_wgpu::WebGpu, _>();
    #[cfg(all(feature = "cuda", not(feature = "fusion")))]
    kernels_cube::register::<burn_cuda::Cuda, _>();
}

/// Prints on stderr what a run computes with, watches for device faults, and runs the job.
///
/// # Panics
///
/// Panics for a backend that is not compiled in; [`BackendArg::from_str`] refuses those.
pub fn with_backend<J: Job>(backend: BackendArg, precision: Precision, job: J) -> J::Out {
    train::watch_device();
    crate::memory::keep_freed();
    register_kernels();
    match backend {
        BackendArg::Flex | BackendArg::NdArray => eprintln!(
            "backend {backend}, {precision}, {} threads",
            rayon::current_num_threads()
        ),
        BackendArg::Tch(_) => {
            #[cfg(feature = "tch")]
            libtorch::configure();
            let threads = rayon::current_num_threads();
            eprintln!("backend {backend}, {precision}, {threads} threads");
        }
        BackendArg::Wgpu | BackendArg::Cuda(_) => {
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            kernel_cache::configure();
            if let (BackendArg::Cuda(_), Err(why)) = (backend, cublaslt()) {
                eprintln!("{why}");
            }
            eprintln!(
                "backend {backend}, {precision}, {} kernels",
                kernels(backend)
            );
        }
    }
    match backend {
        #[cfg(feature = "flex")]
        BackendArg::Flex => job.run::<burn::backend::Flex>(Default::default()),
        #[cfg(feature = "ndarray")]
        BackendArg::NdArray => job.run::<burn_ndarray::NdArray>(Default::default()),
        #[cfg(feature = "wgpu")]
        BackendArg::Wgpu => job.run::<burn_wgpu::WebGpu>(Default::default()),
        #[cfg(feature = "cuda")]
        BackendArg::Cuda(index) => job.run::<burn_cuda::Cuda>(burn_cuda::CudaDevice::new(index)),
        #[cfg(feature = "tch")]
        BackendArg::Tch(device) => job.run::<burn_tch::LibTorch>(libtorch::device(device)),
        #[allow(unreachable_patterns)]
        other => panic!("the {other} backend is not compiled in"),
    }
}

/// Refuses a backend that cannot be used here, or not in this precision, before any work is done.
///
/// # Errors
///
/// Names the backend and what is wrong.
pub fn check(backend: BackendArg, precision: Precision) -> Result<(), String> {
    let bf16 = precision == Precision::Bf16;
    match backend {
        BackendArg::NdArray | BackendArg::Wgpu if bf16 => Err(format!(
            "the {backend} backend has no bf16; use --precision f32"
        )),
        #[cfg(feature = "wgpu")]
        BackendArg::Wgpu => open::<burn_wgpu::WebGpu>(
            backend,
            Default::default(),
            "is there a Vulkan, Metal or DirectX driver?",
        ),
        #[cfg(feature = "cuda")]
        BackendArg::Cuda(index) => {
            open::<burn_cuda::Cuda>(
                backend,
                burn_cuda::CudaDevice::new(index),
                "does `nvidia-smi` list this GPU, and is the CUDA toolkit installed (CUDA_PATH)?",
            )?;
            cublaslt().map(|_| ())
        }
        #[cfg(feature = "tch")]
        BackendArg::Tch(device) => libtorch::check(device),
        _ => Ok(()),
    }
}

impl BackendArg {
    /// The device of a process among several on one machine: so many GPUs further, where there are several.
    pub fn of_rank(self, local_rank: usize) -> Self {
        match self {
            Self::Cuda(index) => Self::Cuda(index + local_rank),
            Self::Tch(TchDevice::Cuda(index)) => Self::Tch(TchDevice::Cuda(index + local_rank)),
            other => other,
        }
    }

    /// True where the program's own cores compute, so that several processes can share them.
    pub fn on_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::NdArray | Self::Tch(TchDevice::Cpu))
    }
}

/// Whether a device answers.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn open<B: Backend>(backend: BackendArg, device: B::Device, hint: &str) -> Result<(), String> {
    kernel_cache::configure();
    let answer = || B::sync(&device).unwrap_or_else(|error| panic!("{error}"));
    train::fault::attempt(std::panic::AssertUnwindSafe(answer)).map_err(|reason| {
        let reason = reason.split(" - searched").next().unwrap_or_default();
        format!("the {backend} backend cannot be used here: {reason}; {hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_unknown_ones_refused() {
        assert_eq!("flex".parse(), Ok(BackendArg::Flex));
        let message = "tpu".parse::<BackendArg>().unwrap_err();
        assert!(
            message.contains("flex") && message.contains("cuda"),
            "{message}"
        );
        for argument in ["cuda:first", "tch:cuda:first"] {
            let message = argument.parse::<BackendArg>().unwrap_err();
            assert!(message.contains("first"), "{message}");
        }
        let message = "tch:tpu".parse::<BackendArg>().unwrap_err();
        assert!(message.contains("tch:mps"), "{message}");
    }

    #[test]
    fn bf16_is_refused_where_the_backend_has_none() {
        assert!(check(BackendArg::NdArray, Precision::Bf16).is_err());
        assert!(check(BackendArg::Flex, Precision::Bf16).is_ok());
    }
}
