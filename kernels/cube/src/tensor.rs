//! Tensors of burn's cubecl backends: how they lie, new ones, and products.

use burn::tensor::{DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, empty_device_dtype};
use burn_cubecl::ops::permute;
use burn_cubecl::tensor::CubeTensor;
#[cfg(feature = "cuda")]
use std::any::Any;

pub(crate) fn shape<R: CubeRuntime>(tensor: &CubeTensor<R>) -> &[usize] {
    tensor.meta.shape()
}

pub(crate) fn elements<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    shape(tensor).iter().product()
}

/// Types that the kernels read and write.
pub(crate) fn is_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::BF16)
}

pub(crate) fn contiguous<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    into_contiguous(tensor)
}

/// The same values where nobody else reads them: they may be overwritten.
pub(crate) fn owned<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() {
        tensor
    } else {
        tensor.copy()
    }
}

/// A contiguous tensor with nothing in it yet, where `beside` is.
pub(crate) fn empty<R: CubeRuntime>(
    beside: &CubeTensor<R>,
    shape: &[usize],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (beside.client.clone(), beside.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(shape.to_vec()), dtype)
}

/// As [`empty`], with rows as far apart as the device likes them for products: [`pitch`].
pub(crate) fn empty_rows<R: CubeRuntime>(
    beside: &CubeTensor<R>,
    shape: &[usize],
    dtype: DType,
) -> CubeTensor<R> {
    let (client, device) = (beside.client.clone(), beside.device.clone());
    empty_device_dtype(client, device, Shape::from(shape.to_vec()), dtype)
}

/// Elements from one row to the next, where all rows are as far apart: what products give, and [`empty_rows`].
pub(crate) fn pitch<R: CubeRuntime>(tensor: &CubeTensor<R>) -> Option<usize> {
    let (shape, strides) = (shape(tensor), tensor.meta.strides());
    let rank = shape.len();
    if rank < 2 || strides[rank - 1] != 1 {
        return None;
    }
    let mut expected = strides[rank - 2];
    for axis in (0..rank - 1).rev() {
        if shape[axis] > 1 && strides[axis] != expected {
            return None;
        }
        expected *= shape[axis];
    }
    Some(strides[rank - 2])
}

/// A view with the last two axes swapped.
pub(crate) fn transposed<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let rank = shape(&tensor).len();
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(rank - 2, rank - 1);
    permute(tensor, &axes)
}

/// A matrix product by burn's kernels, or cuBLASLt if that is asked for; batched where there are more than two axes.
pub(crate) fn product<R: CubeRuntime>(
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    dtype: DType,
) -> CubeTensor<R> {
    #[cfg(feature = "cuda")]
    if let Some(out) = by_cublaslt(&left, &right, dtype) {
        return out;
    }
    matmul(left, right, None, MatmulStrategy::default(), dtype)
        .expect("burn has a kernel for every product")
}

#[cfg(feature = "cuda")]
fn by_cublaslt<R: CubeRuntime>(
    left: &CubeTensor<R>,
    right: &CubeTensor<R>,
    dtype: DType,
) -> Option<CubeTensor<R>> {
    let [left, right] = [left, right].map(|tensor| (tensor as &dyn Any).downcast_ref());
    kernels::same(crate::cublaslt::product(left?, right?, dtype)?)
}
