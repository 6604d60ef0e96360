//! Matrix products by NVIDIA's cuBLASLt on burn's CUDA devices, which knows instructions that burn's kernels do not.
//!
//! It wants a stream to work on, and cubecl keeps its own to itself. So products have a stream, and events of the whole context
//! order it: a product waits for all that was launched before it, and what is launched after waits for the product.

use crate::gemm::{Gemm, Matrix};
use crate::tensor::{empty, shape};
use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::server::{Binding, ComputeServer, Handle};
use cubecl::stream_id::StreamId;
use cudarc::cublaslt::{result, sys};
use cudarc::driver::sys::{CUcontext, CUevent, CUevent_flags, CUevent_wait_flags, CUresult};
use cudarc::driver::{CudaContext, CudaStream};
use std::collections::HashMap;
use std::ffi::c_void;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What an algorithm may take for itself, as PyTorch gives it on Hopper.
const WORKSPACE: usize = 32 << 20;

/// What cuBLASLt takes for granted of a pointer unless it is told otherwise, and cubecl keeps to.
const ALIGNED: u64 = 256;

static ENABLED: AtomicBool = AtomicBool::new(false);

/// Has products of the kernels on burn's CUDA devices be cuBLASLt's, where it has an algorithm for them.
///
/// # Errors
///
/// What is missing for that.
pub fn use_cublaslt() -> Result<(), String> {
    // SAFETY: libraries are opened, whose initialisers do nothing that this program relies on.
    #[allow(unsafe_code)]
    let present = unsafe { sys::is_culib_present() };
    if !present {
        return Err("libcublasLt.so is not found (LD_LIBRARY_PATH)".to_string());
    }
    Order::find()?;
    ENABLED.store(true, Ordering::Relaxed);
    Ok(())
}

/// The product of two tensors in `dtype`, contiguous; `None` where burn's own kernels must do it.
pub(crate) fn product(
    left: &CubeTensor<CudaRuntime>,
    right: &CubeTensor<CudaRuntime>,
    dtype: DType,
) -> Option<CubeTensor<CudaRuntime>> {
    if !ENABLED.load(Ordering::Relaxed) || left.dtype != right.dtype {
        return None;
    }
    let layout = |tensor: &CubeTensor<CudaRuntime>| {
        let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
        (shape.to_vec(), strides.to_vec())
    };
    let (l, r) = (layout(left), layout(right));
    let gemm = Gemm::new((&l.0, &l.1), (&r.0, &r.1))?;
    let mut lengths = shape(left).to_vec();
    *lengths.last_mut()? = gemm.d.rows;
    let key = Key {
        gemm,
        inputs: data_type(left.dtype)?,
        output: data_type(dtype)?,
        aligned: [right, left].map(|tensor| alignment(&tensor.handle)),
    };
    let library = Library::of(&left.device)?;
    let plan = library.plan(key)?;
    let out = empty(left, &lengths, dtype);
    library.launch(plan, [right, left, &out], &left.device);
    Some(out)
}

fn data_type(dtype: DType) -> Option<sys::cudaDataType> {
    match dtype {
        DType::F32 => Some(sys::cudaDataType::CUDA_R_32F),
        DType::BF16 => Some(sys::cudaDataType::CUDA_R_16BF),
        _ => None,
    }
}

/// Of a view's first byte.
fn alignment(handle: &Handle) -> u32 {
    let offset = handle.offset_start.unwrap_or(0) | ALIGNED;
    1 << offset.trailing_zeros()
}

/// What an algorithm is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    gemm: Gemm,
    inputs: sys::cudaDataType,
    output: sys::cudaDataType,
    aligned: [u32; 2],
}

/// A product as the library knows it; kept for good, since there are as many as the model has shapes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    product: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    d: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: descriptions are never written again once they are made.
#[allow(unsafe_code)]
unsafe impl Send for Plan {}

/// The library on one device.
#[derive(Debug)]
struct Library {
    handle: sys::cublasLtHandle_t,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    order: Order,
    workspace: Handle,
    plans: Mutex<HashMap<Key, Option<Plan>>>,
}

// SAFETY: cuBLASLt's handle may be used from any thread, and the rest is either Sync or written once.
#[allow(unsafe_code)]
unsafe impl Send for Library {}
#[allow(unsafe_code)]
unsafe impl Sync for Library {}

/// Events of a whole context, in drivers since CUDA 12.5, and the two that products need.
#[derive(Clone, Copy, Debug)]
struct Order {
    record: ContextEvent,
    wait: ContextEvent,
    before: CUevent,
    after: CUevent,
}

type ContextEvent = unsafe extern "C" fn(CUcontext, CUevent) -> CUresult;

impl Order {
    fn find() -> Result<[ContextEvent; 2], String> {
        let find = |name: &str| {
            // SAFETY: the driver's functions of these names are of this type.
            #[allow(unsafe_code)]
            let found =
                unsafe { cudarc::driver::sys::culib().get::<ContextEvent>(name.as_bytes()) };
            found
                .map(|found| *found)
                .map_err(|_| format!("the driver is older than CUDA 12.5: it has no {name}"))
        };
        Ok([find("cuCtxRecordEvent")?, find("cuCtxWaitEvent")?])
    }

    fn new() -> Result<Self, String> {
        let [record, wait] = Self::find()?;
        let event = || {
            let flags = CUevent_flags::CU_EVENT_DISABLE_TIMING;
            cudarc::driver::result::event::create(flags).map_err(said)
        };
        Ok(Self {
            record,
            wait,
            before: event()?,
            after: event()?,
        })
    }
}

fn said(error: impl Debug) -> String {
    format!("{error:?}")
}

impl Library {
    /// The one of a device; `None` where it cannot be had, which is said once.
    fn of(device: &CudaDevice) -> Option<Arc<Self>> {
        static ALL: OnceLock<Mutex<HashMap<usize, Option<Arc<Library>>>>> = OnceLock::new();
        let mut all = ALL
            .get_or_init(Mutex::default)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = all.entry(device.index).or_insert_with(|| {
            let made = Self::new(device).map(Arc::new);
            made.inspect_err(|why| eprintln!("products without cuBLASLt: {why}"))
                .ok()
        });
        made.clone()
    }

    fn new(device: &CudaDevice) -> Result<Self, String> {
        let workspace = CudaRuntime::client(device).empty(WORKSPACE);
        let context = CudaContext::new(device.index).map_err(said)?;
        context.bind_to_thread().map_err(said)?;
        Ok(Self {
            handle: result::create_handle().map_err(said)?,
            stream: context.new_stream().map_err(said)?,
            order: Order::new()?,
            context,
            workspace,
            plans: Mutex::default(),
        })
    }

    /// How to do a product; `None` where the library does not know it.
    fn plan(&self, key: Key) -> Option<Plan> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        *plans.entry(key).or_insert_with(|| self.choose(key).ok())
    }

    fn choose(&self, key: Key) -> Result<Plan, result::CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Desc;
        use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
        let Key {
            gemm,
            inputs,
            output,
            aligned,
        } = key;
        // The device's context, which the library asks for what the device is.
        let _ = self.context.bind_to_thread();
        // f32 is f32 here, as in PyTorch, and not TF32.
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let product = result::create_matmul_desc(compute, sys::cudaDataType::CUDA_R_32F)?;
        let (a, b) = (
            layout(gemm.a, inputs, gemm.batch)?,
            layout(gemm.b, inputs, gemm.batch)?,
        );
        let d = layout(gemm.d, output, gemm.batch)?;
        let preference = result::create_matmul_pref()?;
        // SAFETY: the descriptions were made above; each attribute gets a value of its type and that value's size.
        #[allow(unsafe_code)]
        let found = unsafe {
            for (attribute, matrix) in [
                (Desc::CUBLASLT_MATMUL_DESC_TRANSA, gemm.a),
                (Desc::CUBLASLT_MATMUL_DESC_TRANSB, gemm.b),
            ] {
                let transposed = i32::from(matrix.transposed); // CUBLAS_OP_N, CUBLAS_OP_T
                let (value, size) = value(&transposed);
                result::set_matmul_desc_attribute(product, attribute, value, size)?;
            }
            let (most, size) = value(&WORKSPACE);
            let attribute = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(preference, attribute, most, size)?;
            for (attribute, aligned) in [
                (
                    Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                    &aligned[0],
                ),
                (
                    Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                    &aligned[1],
                ),
            ] {
                let (value, size) = value(aligned);
                result::set_matmul_pref_attribute(preference, attribute, value, size)?;
            }
            let found =
                result::get_matmul_algo_heuristic(self.handle, product, a, b, d, d, preference);
            result::destroy_matmul_pref(preference)?;
            found?
        };
        Ok(Plan {
            product,
            a,
            b,
            d,
            algorithm: found.algo,
        })
    }

    /// Has the device's thread do a product when it has done what came before.
    fn launch(
        self: Arc<Self>,
        plan: Plan,
        abd: [&CubeTensor<CudaRuntime>; 3],
        device: &CudaDevice,
    ) {
        let [a, b, d] = abd.map(|tensor| tensor.handle.clone().binding());
        let workspace = self.workspace.clone().binding();
        let stream = StreamId::current();
        let server = DeviceHandle::<<CudaRuntime as Runtime>::Server>::new(device.to_id());
        server.submit(move |server| {
            let plan = plan; // whole, since its parts are no Send
            let mut pointer = |binding: Binding| -> Result<_, String> {
                let resource = server.get_resource(binding, stream).map_err(said)?;
                Ok(resource.resource().ptr as *mut c_void)
            };
            let run = || {
                let pointers = [pointer(a)?, pointer(b)?, pointer(d)?, pointer(workspace)?];
                self.run(&plan, pointers)
            };
            // As of a kernel that cannot be launched: `train::fault` sees it, and the program ends before it trusts the result.
            if let Err(why) = run() {
                panic!("a product by cuBLASLt failed: {why}");
            }
        });
    }

    /// On the device's thread, with its context current.
    fn run(&self, plan: &Plan, [a, b, d, workspace]: [*mut c_void; 4]) -> Result<(), String> {
        let (context, stream) = (self.context.cu_ctx(), self.stream.cu_stream());
        let Order {
            record,
            wait,
            before,
            after,
        } = self.order;
        let (one, zero) = (1f32, 0f32);
        // SAFETY: pointers are those of live buffers of the shapes that the plan was made for, and nothing else is written until the
        // product is done: the context waits for it. Events and stream belong to the context.
        #[allow(unsafe_code)]
        unsafe {
            record(context, before).result().map_err(said)?;
            let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
            cudarc::driver::result::stream::wait_event(stream, before, flags).map_err(said)?;
            result::matmul(
                self.handle,
                plan.product,
                value(&one).0,
                value(&zero).0,
                a,
                plan.a,
                b,
                plan.b,
                d,
                plan.d,
                d,
                plan.d,
                &plan.algorithm,
                workspace,
                WORKSPACE,
                stream.cast(),
            )
            .map_err(said)?;
            cudarc::driver::result::event::record(after, stream).map_err(said)?;
            wait(context, after).result().map_err(said)
        }
    }
}

/// A value as the library's setters take it, and its size.
fn value<T>(value: &T) -> (*const c_void, usize) {
    (std::ptr::from_ref(value).cast(), size_of::<T>())
}

fn layout(
    matrix: Matrix,
    dtype: sys::cudaDataType,
    batch: usize,
) -> Result<sys::cublasLtMatrixLayout_t, result::CublasError> {
    use sys::cublasLtMatrixLayoutAttribute_t as Layout;
    let (rows, columns) = (matrix.rows as u64, matrix.columns as u64);
    let layout = result::create_matrix_layout(dtype, rows, columns, matrix.leading as i64)?;
    let (batch, apart) = (batch as i32, matrix.apart as i64);
    // SAFETY: the layout was made above, and the attributes are of these types.
    #[allow(unsafe_code)]
    unsafe {
        let (count, size) = value(&batch);
        let attribute = Layout::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
        result::set_matrix_layout_attribute(layout, attribute, count, size)?;
        let (apart, size) = value(&apart);
        let attribute = Layout::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET;
        result::set_matrix_layout_attribute(layout, attribute, apart, size)?;
    }
    Ok(layout)
}
