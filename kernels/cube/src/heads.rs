//! Heads of attention: from rows where they lie side by side to matrices of their own, and back.

use crate::cube::{elementwise, storage, vector};
use crate::tensor::{elements, empty, shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Of the element `at` of a tensor `[batch, heads, seq, dim]`: where it lies in the first part of rows
/// `[batch, seq, parts, heads, dim]`.
#[cube]
fn place(at: usize, #[comptime] parts: usize, heads: usize, seq: usize, dim: usize) -> usize {
    let inner = at % dim;
    let query = at / dim % seq;
    let head = at / (dim * seq) % heads;
    let image = at / (dim * seq * heads);
    ((image * seq + query) * parts * heads + head) * dim + inner
}

#[cube(launch_unchecked)]
fn heads_apart<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    parts: &mut Sequence<Array<Vector<F, N>>>,
    heads: u32,
    seq: u32,
    dim: u32,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let count = comptime!(parts.len());
    let each = rows.len() / count;
    let width = heads as usize * dim as usize;
    let mut at = ABSOLUTE_POS;
    while at < each {
        let from = place(at, count, heads as usize, seq as usize, dim as usize);
        #[unroll]
        for part in 0..count {
            set::<F, N>(parts.index_mut(part), at, rows[from + part * width]);
        }
        at += stride;
    }
}

#[cube]
fn set<F: Float, N: Size>(array: &mut Array<Vector<F, N>>, at: usize, value: Vector<F, N>) {
    array[at] = value;
}

#[cube(launch_unchecked)]
fn heads_together<F: Float, N: Size>(
    parts: &Sequence<Array<Vector<F, N>>>,
    rows: &mut Array<Vector<F, N>>,
    heads: u32,
    seq: u32,
    dim: u32,
    #[define(F)] _dtype: StorageType,
) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let count = comptime!(parts.len());
    let each = rows.len() / count;
    let width = heads as usize * dim as usize;
    let mut at = ABSOLUTE_POS;
    while at < each {
        let to = place(at, count, heads as usize, seq as usize, dim as usize);
        #[unroll]
        for part in 0..count {
            let from = parts.index(part);
            rows[to + part * width] = from[at];
        }
        at += stride;
    }
}

/// The `N` parts of contiguous rows `[batch, seq, N · heads · dim]`, each `[batch, heads, seq, dim]`.
pub(crate) fn split<R: CubeRuntime, const N: usize>(
    rows: CubeTensor<R>,
    heads: usize,
) -> [CubeTensor<R>; N] {
    let [batch, seq, width] = [0, 1, 2].map(|axis| shape(&rows)[axis]);
    let dim = width / N / heads;
    let parts = [(); N].map(|()| empty(&rows, &[batch, heads, seq, dim], rows.dtype));
    let size = vector(dim);
    let (count, cube) = elementwise(elements(&parts[0]) / size);
    let (client, dtype) = (rows.client.clone(), rows.dtype);
    let arguments = parts.iter().map(|part| part.clone().into_array_arg());
    // SAFETY: the parts have together as many elements as the rows, and each of these has its place.
    #[allow(unsafe_code)]
    unsafe {
        heads_apart::launch_unchecked::<R>(
            &client,
            count,
            cube,
            size,
            rows.into_array_arg(),
            arguments.collect(),
            heads as u32,
            seq as u32,
            (dim / size) as u32,
            storage(dtype),
        );
    }
    parts
}

/// Rows `[batch, seq, N · heads · dim]` of contiguous parts `[batch, heads, seq, dim]`.
pub(crate) fn join<R: CubeRuntime, const N: usize>(parts: [CubeTensor<R>; N]) -> CubeTensor<R> {
    let [batch, heads, seq, dim] = [0, 1, 2, 3].map(|axis| shape(&parts[0])[axis]);
    let (client, dtype) = (parts[0].client.clone(), parts[0].dtype);
    let rows = empty(&parts[0], &[batch, seq, N * heads * dim], dtype);
    let size = vector(dim);
    let (count, cube) = elementwise(elements(&parts[0]) / size);
    let arguments = parts.into_iter().map(|part| part.into_array_arg());
    // SAFETY: as for splitting.
    #[allow(unsafe_code)]
    unsafe {
        heads_together::launch_unchecked::<R>(
            &client,
            count,
            cube,
            size,
            arguments.collect(),
            rows.clone().into_array_arg(),
            heads as u32,
            seq as u32,
            (dim / size) as u32,
            storage(dtype),
        );
    }
    rows
}
