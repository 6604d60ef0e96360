//! Gradients and embeddings from GPU to GPU by NCCL, for burn's CUDA backend. Everything else the processes tell each other
//! goes the way of their [`World`].
//!
//! NCCL works on a stream of its own. burn's work is waited for before, and NCCL's after, each call, so that neither reads
//! what the other still writes.

use burn::prelude::*;
use burn::tensor::{DType, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cuda::{Cuda, CudaDevice};
use cubecl::cuda::CudaRuntime;
use cudarc::driver::{CudaContext, CudaStream};
use cudarc::nccl::{result, sys};
use dist::World;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};
use train::trainer::collective::{Collective, Direct};
use train::{Result, TrainError};

/// The GPUs of all processes.
#[derive(Debug)]
pub struct Nccl {
    world: Arc<dyn World>,
    /// First of those of the device: it is given back before its stream.
    comm: Mutex<Comm>,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

/// A communicator, which NCCL owns.
#[derive(Debug)]
struct Comm(sys::ncclComm_t);

// SAFETY: NCCL allows calls from any thread, one at a time.
#[allow(unsafe_code)]
unsafe impl Send for Comm {}

impl Drop for Comm {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the communicator was made by `comm_init_rank` and is given back once. Aborted, since `comm_destroy` waits for
        // the others, who may be gone; nothing is under way, as every call is waited for.
        let _ = unsafe { result::comm_abort(self.0) };
    }
}

/// The way from GPU to GPU, where `device` is one of burn's CUDA backend and there are several processes.
///
/// # Errors
///
/// When NCCL or CUDA refuses. `libnccl.so` must be found by that name; packages often install `libnccl.so.2` only.
pub fn direct<B: Backend>(world: &Arc<dyn World>, device: &B::Device) -> Result<Option<Direct>> {
    let device: &dyn std::any::Any = device;
    let Some(device) = device.downcast_ref::<CudaDevice>() else {
        return Ok(None);
    };
    if world.size() == 1 {
        return Ok(None);
    }
    Ok(Some(Direct::new::<Cuda>(Nccl::join(world, device)?)))
}

fn failed(error: impl std::fmt::Debug) -> TrainError {
    TrainError::Task {
        what: "exchanging by NCCL",
        source: format!("{error:?}").into(),
    }
}

impl Nccl {
    /// Joins the GPUs of all processes; a process alone may do so, too.
    ///
    /// # Errors
    ///
    /// When NCCL or CUDA refuses.
    #[allow(unsafe_code)]
    pub fn join(world: &Arc<dyn World>, device: &CudaDevice) -> Result<Self> {
        let context = CudaContext::new(device.index).map_err(failed)?;
        context.bind_to_thread().map_err(failed)?;
        let stream = context.new_stream().map_err(failed)?;
        let id = match world.rank() {
            0 => Some(result::get_uniqueid().map_err(failed)?),
            _ => None,
        };
        let of_first: Vec<u8> = id
            .iter()
            .flat_map(|id| id.internal.map(|c| c as u8))
            .collect();
        let bytes = world.broadcast(&of_first)?;
        let mut id = sys::ncclUniqueId { internal: [0; 128] };
        for (to, byte) in id.internal.iter_mut().zip(bytes) {
            *to = byte as _;
        }
        let mut comm = std::ptr::null_mut();
        let (size, rank) = (world.size() as i32, world.rank() as i32);
        // SAFETY: `comm` is a place for one communicator; the context of the device is current on this thread.
        unsafe { result::comm_init_rank(&mut comm, size, id, rank) }.map_err(failed)?;
        Ok(Self {
            world: world.clone(),
            comm: Mutex::new(Comm(comm)),
            stream,
            context,
        })
    }

    /// Makes NCCL calls between what burn has done and what it will do.
    fn between(
        &self,
        device: &CudaDevice,
        calls: impl FnOnce(sys::ncclComm_t, sys::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        let comm = self.comm.lock().unwrap_or_else(PoisonError::into_inner);
        self.context.bind_to_thread().map_err(failed)?;
        Cuda::<f32, i32>::sync(device).map_err(failed)?;
        calls(comm.0, self.stream.cu_stream().cast())?;
        self.stream.synchronize().map_err(failed)
    }
}

/// A tensor whose values lie one after the other.
fn flat<const D: usize>(tensor: Tensor<Cuda, D>) -> Result<CubeTensor<CudaRuntime>> {
    match tensor.into_primitive() {
        TensorPrimitive::Float(tensor) => Ok(into_contiguous(tensor)),
        TensorPrimitive::QFloat(_) => Err(failed("a quantized tensor")),
    }
}

fn whole<const D: usize>(tensor: CubeTensor<CudaRuntime>) -> Tensor<Cuda, D> {
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// Where its values lie on the device, for as long as the tensor is alive.
fn pointer(tensor: &CubeTensor<CudaRuntime>) -> Result<*mut c_void> {
    let resource = tensor.client.get_resource(tensor.handle.clone());
    Ok(resource.map_err(failed)?.resource().ptr as *mut c_void)
}

fn type_of(dtype: DType) -> Result<sys::ncclDataType_t> {
    match dtype {
        DType::F32 => Ok(sys::ncclDataType_t::ncclFloat32),
        DType::F16 => Ok(sys::ncclDataType_t::ncclFloat16),
        DType::BF16 => Ok(sys::ncclDataType_t::ncclBfloat16),
        other => Err(failed(format!("no exchange of {other:?}"))),
    }
}

const SUM: sys::ncclRedOp_t = sys::ncclRedOp_t::ncclSum;

impl World for Nccl {
    fn rank(&self) -> usize {
        self.world.rank()
    }
    fn size(&self) -> usize {
        self.world.size()
    }
    fn gather(&self, mine: &[u8]) -> dist::Result<Vec<Vec<u8>>> {
        self.world.gather(mine)
    }
    fn all_gather(&self, mine: &[f32]) -> dist::Result<Vec<f32>> {
        self.world.all_gather(mine)
    }
    fn all_reduce(&self, values: &mut [f32]) -> dist::Result<()> {
        self.world.all_reduce(values)
    }
    fn reduce_scatter(&self, values: &[f32]) -> dist::Result<Vec<f32>> {
        self.world.reduce_scatter(values)
    }
    fn spread(&self, from: usize, values: &mut [f32]) -> dist::Result<()> {
        self.world.spread(from, values)
    }
    fn spent(&self) -> std::time::Duration {
        self.world.spent()
    }
}

impl Collective<Cuda> for Nccl {
    #[allow(unsafe_code)]
    fn gather_rows(&self, rows: Tensor<Cuda, 2>) -> Result<Tensor<Cuda, 2>> {
        let ([n, dim], device, dtype) = (rows.dims(), rows.device(), rows.dtype());
        let mine = flat(rows)?;
        let all = flat(Tensor::<Cuda, 2>::empty(
            [self.size() * n, dim],
            (&device, dtype),
        ))?;
        let (from, to, kind) = (pointer(&mine)?, pointer(&all)?, type_of(dtype)?);
        self.between(&device, |comm, stream| {
            // SAFETY: both buffers are alive until NCCL's stream was waited for; `to` has room for the rows of all.
            unsafe { result::all_gather(from, to, n * dim, kind, comm, stream) }
                .map(drop)
                .map_err(failed)
        })?;
        Ok(whole(all))
    }

    #[allow(unsafe_code)]
    fn scatter_rows(&self, rows: Tensor<Cuda, 2>) -> Result<Tensor<Cuda, 2>> {
        let ([all, dim], device, dtype) = (rows.dims(), rows.device(), rows.dtype());
        let n = all / self.size();
        // Sums are taken in f32, whatever the dtype.
        let all = flat(rows.cast(DType::F32))?;
        let mine = flat(Tensor::<Cuda, 2>::empty([n, dim], (&device, DType::F32)))?;
        let (from, to, kind) = (pointer(&all)?, pointer(&mine)?, type_of(DType::F32)?);
        self.between(&device, |comm, stream| {
            // SAFETY: both buffers are alive until NCCL's stream was waited for; `from` holds as many parts as processes.
            unsafe { result::reduce_scatter(from, to, n * dim, kind, SUM, comm, stream) }
                .map(drop)
                .map_err(failed)
        })?;
        Ok(whole::<2>(mine).cast(dtype))
    }

    #[allow(unsafe_code)]
    fn sum(&self, values: Vec<Tensor<Cuda, 1>>) -> Result<Vec<Tensor<Cuda, 1>>> {
        let Some(device) = values.first().map(Tensor::device) else {
            return Ok(values);
        };
        let mut of_all = Vec::with_capacity(values.len());
        for value in values {
            let ([length], dtype) = (value.dims(), value.dtype());
            // Not in place: the buffer may be another tensor's as well. In f32, whatever the dtype.
            let sums = flat(Tensor::<Cuda, 1>::empty([length], (&device, DType::F32)))?;
            of_all.push((flat(value.cast(DType::F32))?, sums, length, dtype));
        }
        let mut places = Vec::with_capacity(of_all.len());
        for (mine, sums, length, _) in &of_all {
            places.push((pointer(mine)?, pointer(sums)?, *length));
        }
        let kind = type_of(DType::F32)?;
        self.between(&device, |comm, stream| {
            result::group_start().map_err(failed)?;
            let mut called = places.into_iter().map(|(from, to, length)| {
                // SAFETY: all buffers are alive until NCCL's stream was waited for, and of that length.
                unsafe { result::all_reduce(from, to, length, kind, SUM, comm, stream) }
            });
            let refused = called.find_map(std::result::Result::err);
            // The group ends in any case.
            let ended = result::group_end().map(drop).map_err(failed);
            refused.map_or(ended, |error| Err(failed(error)))
        })?;
        Ok(of_all
            .into_iter()
            .map(|(_, sums, _, dtype)| whole::<1>(sums).cast(dtype))
            .collect())
    }
}
