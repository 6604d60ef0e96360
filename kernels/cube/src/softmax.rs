//! Softmax over scores, in f32, with scale and mask; and its way back.

use crate::cube::{Cube, cubes, over_cube, storage};
use crate::tensor::{contiguous, elements, empty_rows, pitch, shape};
use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Below every score that is meant to count. No infinity: WebGPU has none to write down.
const LOWEST: f32 = -3.0e38;

/// Where the rows of scores, weights and mask lie.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Rows {
    count: u32,
    keys: u32,
    /// Elements from one row of the input to the next, and of the output.
    from: u32,
    to: u32,
    /// Rows of the scores for one image, and the mask's images and rows for each.
    image: u32,
    images: u32,
    queries: u32,
}

#[cube(launch_unchecked)]
fn softmax_rows<S: Float, F: Float>(
    scores: &Array<S>,
    mask: &Array<f32>,
    weights: &mut Array<F>,
    rows: &Rows,
    scale: f32,
    #[comptime] masked: bool,
    #[comptime] cube: Cube,
    #[define(S, F)] _dtypes: [StorageType; 2],
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(cube.units as usize));
    let units = comptime!(cube.units as usize);
    let keys = rows.keys as usize;
    let mut row = CUBE_POS;
    while row < rows.count as usize {
        let start = row * rows.from as usize;
        let mut hidden = 0usize;
        if comptime!(masked) {
            let image = row / rows.image as usize % rows.images as usize;
            let query = row % rows.queries as usize;
            hidden = (image * rows.queries as usize + query) * keys;
        }
        let mut largest = f32::new(LOWEST);
        let mut at = UNIT_POS as usize;
        while at < keys {
            let score = score::<S>(scores, mask, start + at, hidden + at, scale, masked);
            largest = select(score > largest, score, largest);
            at += units;
        }
        let largest = over_cube(largest, &mut shared, cube, true);
        let mut sum = f32::new(0.0);
        let mut at = UNIT_POS as usize;
        while at < keys {
            let score = score::<S>(scores, mask, start + at, hidden + at, scale, masked);
            sum += (score - largest).exp();
            at += units;
        }
        let inverse = f32::new(1.0) / over_cube(sum, &mut shared, cube, false);
        let out = row * rows.to as usize;
        let mut at = UNIT_POS as usize;
        while at < keys {
            let score = score::<S>(scores, mask, start + at, hidden + at, scale, masked);
            weights[out + at] = F::cast_from((score - largest).exp() * inverse);
            at += units;
        }
        row += CUBE_COUNT;
    }
}

#[cube]
fn score<S: Float>(
    scores: &Array<S>,
    mask: &Array<f32>,
    at: usize,
    hidden: usize,
    scale: f32,
    #[comptime] masked: bool,
) -> f32 {
    let score = f32::cast_from(scores[at]) * scale;
    if comptime!(masked) {
        score + mask[hidden]
    } else {
        score
    }
}

#[cube(launch_unchecked)]
fn softmax_rows_backward<S: Float, F: Float>(
    weights: &Array<F>,
    up: &Array<S>,
    gradients: &mut Array<F>,
    rows: &Rows,
    scale: f32,
    #[comptime] cube: Cube,
    #[define(S, F)] _dtypes: [StorageType; 2],
) {
    let mut shared = SharedMemory::<f32>::new(comptime!(cube.units as usize));
    let units = comptime!(cube.units as usize);
    let keys = rows.keys as usize;
    let mut row = CUBE_POS;
    while row < rows.count as usize {
        let from = row * rows.from as usize;
        let to = row * rows.to as usize;
        let mut sum = f32::new(0.0);
        let mut at = UNIT_POS as usize;
        while at < keys {
            sum += f32::cast_from(weights[to + at]) * f32::cast_from(up[from + at]);
            at += units;
        }
        let mean = over_cube(sum, &mut shared, cube, false);
        let mut at = UNIT_POS as usize;
        while at < keys {
            let weight = f32::cast_from(weights[to + at]);
            let gradient = weight * (f32::cast_from(up[from + at]) - mean) * scale;
            gradients[to + at] = F::cast_from(gradient);
            at += units;
        }
        row += CUBE_COUNT;
    }
}

/// Rows that are as far apart everywhere.
fn even<R: CubeRuntime>(tensor: CubeTensor<R>) -> (CubeTensor<R>, usize) {
    match pitch(&tensor) {
        Some(pitch) => (tensor, pitch),
        None => {
            let (tensor, keys) = (contiguous(tensor), 3);
            let keys = shape(&tensor)[keys];
            (tensor, keys)
        }
    }
}

/// `softmax(scores · scale + mask)` in `dtype`.
///
/// # Shapes
///
/// - scores, output: `[batch, heads, seq, keys]`
/// - mask: `[1 or batch, 1, rows, keys]`, contiguous f32; the rows come again as often as they fit into `heads · seq`
pub(crate) fn softmax<R: CubeRuntime>(
    scores: CubeTensor<R>,
    mask: Option<CubeTensor<R>>,
    scale: f32,
    dtype: DType,
) -> CubeTensor<R> {
    let [_, heads, seq, keys] = [0, 1, 2, 3].map(|axis| shape(&scores)[axis]);
    let (scores, from) = even(scores);
    let weights = empty_rows(&scores, shape(&scores), dtype);
    let to = pitch(&weights).expect("what is new has even rows");
    let count = elements(&scores) / keys;
    let client = scores.client.clone();
    let cube = Cube::of_rows(&client, keys);
    let images = mask.as_ref().map_or(1, |mask| shape(mask)[0]);
    let queries = mask.as_ref().map_or(seq, |mask| shape(mask)[2]);
    let masked = mask.is_some();
    // Without a mask something must stand in its place.
    let mask = mask.unwrap_or_else(|| crate::tensor::empty(&scores, &[1], DType::F32));
    let types = [scores.dtype, dtype].map(storage);
    // SAFETY: rows are within the buffers of scores and weights, and the mask has `images · queries` rows of as many keys.
    #[allow(unsafe_code)]
    unsafe {
        softmax_rows::launch_unchecked::<R>(
            &client,
            cubes(count),
            cube.dim(),
            scores.into_array_arg(),
            mask.into_array_arg(),
            weights.clone().into_array_arg(),
            RowsLaunch::new(
                count as u32,
                keys as u32,
                from as u32,
                to as u32,
                (heads * seq) as u32,
                images as u32,
                queries as u32,
            ),
            scale,
            masked,
            cube,
            types,
        );
    }
    weights
}

/// The gradient of unscaled scores from the softmax's output and the gradient of that.
pub(crate) fn softmax_backward<R: CubeRuntime>(
    weights: CubeTensor<R>,
    up: CubeTensor<R>,
    scale: f32,
) -> CubeTensor<R> {
    let [_, heads, seq, keys] = [0, 1, 2, 3].map(|axis| shape(&weights)[axis]);
    let ((weights, to), (up, from)) = (even(weights), even(up));
    let (weights, gradients) = {
        let gradients = empty_rows(&weights, shape(&weights), weights.dtype);
        match pitch(&gradients) == Some(to) {
            true => (weights, gradients),
            false => {
                let gradients = crate::tensor::empty(&weights, shape(&weights), weights.dtype);
                (contiguous(weights), gradients)
            }
        }
    };
    let to = pitch(&weights).unwrap_or(keys);
    let count = elements(&weights) / keys;
    let client = weights.client.clone();
    let cube = Cube::of_rows(&client, keys);
    let types = [up.dtype, weights.dtype].map(storage);
    // SAFETY: as forward; weights and gradients lie alike.
    #[allow(unsafe_code)]
    unsafe {
        softmax_rows_backward::launch_unchecked::<R>(
            &client,
            cubes(count),
            cube.dim(),
            weights.into_array_arg(),
            up.into_array_arg(),
            gradients.clone().into_array_arg(),
            RowsLaunch::new(
                count as u32,
                keys as u32,
                from as u32,
                to as u32,
                (heads * seq) as u32,
                1,
                seq as u32,
            ),
            scale,
            cube,
            types,
        );
    }
    gradients
}
