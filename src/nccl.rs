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
use std::sync::Arc;
use train::trainer::collective::{Collective, Direct};
use train::{Result, TrainError};

/// The GPUs of all processes.
#[derive(Debug)]
pub struct Nccl {
    world: Arc<dyn World>,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    comm: Comm,
}

/// A communicator, which NCCL owns.
#[derive(Debug)]
struct Comm(sys::ncclComm_t);

// SAFETY: NCCL allows calls from any thread, one at a time; the engine makes them from the one that trains.
#[allow(unsafe_code)]
unsafe impl Send for Comm {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Comm {}

impl Drop for Comm {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the communicator was made by `comm_init_rank` and is given back once.
        let _ = unsafe { result::comm_destroy(self.0) };
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
            context,
            stream,
            comm: Comm(comm),
        })
    }

    /// Makes NCCL calls between what burn has done and what it will do.
    fn between(
        &self,
        device: &CudaDevice,
        calls: impl FnOnce(sys::cudaStream_t) -> Result<()>,
    ) -> Result<()> {
        self.context.bind_to_thread().map_err(failed)?;
        Cuda::<f32, i32>::sync(device).map_err(failed)?;
        calls(self.stream.cu_stream().cast())?;
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
    fn spread(&self, from: usize, values: &mut [f32]) -> dist::Result<()> {
        self.world.spread(from, values)
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
        self.between(&device, |stream| {
            // SAFETY: both buffers are alive until NCCL's stream was waited for; `to` has room for the rows of all.
            unsafe { result::all_gather(from, to, n * dim, kind, self.comm.0, stream) }
                .map(drop)
                .map_err(failed)
        })?;
        Ok(whole(all))
    }

    #[allow(unsafe_code)]
    fn scatter_rows(&self, rows: Tensor<Cuda, 2>) -> Result<Tensor<Cuda, 2>> {
        let ([all, dim], device, dtype) = (rows.dims(), rows.device(), rows.dtype());
        let n = all / self.size();
        let all = flat(rows)?;
        let mine = flat(Tensor::<Cuda, 2>::empty([n, dim], (&device, dtype)))?;
        let (from, to, kind) = (pointer(&all)?, pointer(&mine)?, type_of(dtype)?);
        self.between(&device, |stream| {
            // SAFETY: both buffers are alive until NCCL's stream was waited for; `from` holds as many parts as processes.
            unsafe { result::reduce_scatter(from, to, n * dim, kind, SUM, self.comm.0, stream) }
                .map(drop)
                .map_err(failed)
        })?;
        Ok(whole(mine))
    }

    #[allow(unsafe_code)]
    fn sum(&self, values: Vec<Tensor<Cuda, 1>>) -> Result<Vec<Tensor<Cuda, 1>>> {
        let Some(device) = values.first().map(Tensor::device) else {
            return Ok(values);
        };
        let mut of_all = Vec::with_capacity(values.len());
        for value in values {
            let ([length], dtype) = (value.dims(), value.dtype());
            // Not in place: the buffer may be another tensor's as well.
            let sums = flat(Tensor::<Cuda, 1>::empty([length], (&device, dtype)))?;
            of_all.push((flat(value)?, sums, length, type_of(dtype)?));
        }
        let mut places = Vec::with_capacity(of_all.len());
        for (mine, sums, length, kind) in &of_all {
            places.push((pointer(mine)?, pointer(sums)?, *length, *kind));
        }
        self.between(&device, |stream| {
            result::group_start().map_err(failed)?;
            for (from, to, length, kind) in places {
                // SAFETY: all buffers are alive until NCCL's stream was waited for, and of that length.
                unsafe { result::all_reduce(from, to, length, kind, SUM, self.comm.0, stream) }
                    .map_err(failed)?;
            }
            result::group_end().map(drop).map_err(failed)
        })?;
        Ok(of_all
            .into_iter()
            .map(|(_, sums, ..)| whole(sums))
            .collect())
    }
}
