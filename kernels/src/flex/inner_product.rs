//! Products `x weightᵀ` of the tokens of a few images, on CPUs with AVX-512. Both matrices lie input by input, so every entry of the
//! product is a sum along two stretches of memory. A product in blocks first brings the weight into another order, which pays only
//! where many rows share it.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Floats of a vector.
const LANES: usize = 16;
/// Rows and outputs of a task, and inputs at a time: they stay in a core's own cache.
const ROWS: usize = 192;
const OUTPUTS: usize = 128;
const INPUTS: usize = 1024;
/// Rows and outputs of a tile, whose sums are in registers.
const HEIGHT: usize = 6;
const WIDTH: usize = 4;

/// Whether this is faster than blocks: measured on widths from 512 to 4096, and taken for nothing else.
fn pays(rows: usize, outputs: usize, inputs: usize) -> bool {
    inputs >= 512 && rows <= if inputs > outputs { 1024 } else { 320 }
}

/// Adds `x weightᵀ` to `out`, on all cores; `false` where that is not the better way.
///
/// # Shapes
///
/// - out: `[rows, outputs]`
/// - x: `[rows, inputs]`
/// - weight: `[outputs, inputs]`
///
/// # Panics
///
/// If the lengths do not fit.
pub(super) fn add_product(out: &mut [f32], x: &[f32], weight: &[f32], inputs: usize) -> bool {
    if !inputs.is_multiple_of(LANES) || !Arch::new().dispatch(IsWide) {
        return false;
    }
    let inner = inputs.max(1);
    let (rows, outputs) = (x.len() / inner, weight.len() / inner);
    if !pays(rows, outputs, inputs) {
        return false;
    }
    assert!(out.len() == rows * outputs && x.len() == rows * inputs);
    assert_eq!(weight.len(), outputs * inputs);
    let (blocks, panels) = (rows.div_ceil(ROWS), outputs.div_ceil(OUTPUTS));
    let out = Sums(out.as_mut_ptr());
    (0..blocks * panels).into_par_iter().for_each(|task| {
        // Blocks of nearly the same height. A task follows that with the same rows.
        let (block, from) = (task / panels, task % panels * OUTPUTS);
        Arch::new().dispatch(Task {
            out,
            x,
            weight,
            shape: [outputs, inputs],
            rows: rows * block / blocks..rows * (block + 1) / blocks,
            columns: from..(from + OUTPUTS).min(outputs),
        });
    });
    true
}

/// Whether the vectors are AVX-512's: with shorter ones, or fewer of them, blocks are faster.
struct IsWide;

impl WithSimd for IsWide {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> bool {
        S::F32_LANES == LANES && S::REGISTER_COUNT >= 32
    }
}

/// Where the product is added, `[rows, outputs]`.
#[derive(Clone, Copy)]
struct Sums(*mut f32);

// SAFETY: tasks share it, and each writes the entries of its own rows and columns only.
#[allow(unsafe_code)]
unsafe impl Send for Sums {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Sums {}

/// Some rows and columns of the product. They lie within it, and the matrices have the lengths that `shape` says.
struct Task<'a> {
    out: Sums,
    x: &'a [f32],
    weight: &'a [f32],
    /// Outputs and inputs.
    shape: [usize; 2],
    rows: Range<usize>,
    columns: Range<usize>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, _) = S::as_simd_f32s(self.x);
        let (weight, _) = S::as_simd_f32s(self.weight);
        let [outputs, inputs] = self.shape;
        let (inputs, most) = (inputs / S::F32_LANES, INPUTS / S::F32_LANES);
        for first in (0..inputs).step_by(most) {
            for column in self.columns.clone().step_by(WIDTH) {
                let width = WIDTH.min(self.columns.end - column);
                let mut row = self.rows.start;
                while row < self.rows.end {
                    let left = self.rows.end - row;
                    let height = left.div_ceil(left.div_ceil(HEIGHT));
                    // SAFETY: rows and columns lie in the product, and so in the matrices, as `add_product` asserts.
                    #[allow(unsafe_code)]
                    let tile = unsafe {
                        Tile {
                            x: x.as_ptr().add(row * inputs),
                            weight: weight.as_ptr().add(column * inputs),
                            out: self.out.0.add(row * outputs + column),
                            strides: [inputs, outputs],
                            along: [first, (first + most).min(inputs)],
                        }
                    };
                    add_tile(simd, tile, [height, width]);
                    row += height;
                }
            }
        }
    }
}

/// The first of some rows and of some columns, and where their product is added.
#[derive(Clone, Copy)]
struct Tile<V> {
    x: *const V,
    weight: *const V,
    out: *mut f32,
    /// From one row of the matrices to the next, in vectors, and from one of the product to the next.
    strides: [usize; 2],
    /// The inputs to sum along, in vectors.
    along: [usize; 2],
}

/// Adds the sums of a tile of some rows and columns.
#[inline(always)]
fn add_tile<S: Simd>(simd: S, tile: Tile<S::f32s>, size: [usize; 2]) {
    match size {
        [6, WIDTH] => add::<S, 6, WIDTH>(simd, tile),
        [5, WIDTH] => add::<S, 5, WIDTH>(simd, tile),
        [4, WIDTH] => add::<S, 4, WIDTH>(simd, tile),
        [3, WIDTH] => add::<S, 3, WIDTH>(simd, tile),
        [2, WIDTH] => add::<S, 2, WIDTH>(simd, tile),
        [1, WIDTH] => add::<S, 1, WIDTH>(simd, tile),
        [height, width] => {
            for at in 0..height * width {
                let ([row, column], [inputs, outputs]) = ([at / width, at % width], tile.strides);
                // SAFETY: an entry of the tile, which lies in the product.
                #[allow(unsafe_code)]
                let entry = unsafe {
                    Tile {
                        x: tile.x.add(row * inputs),
                        weight: tile.weight.add(column * inputs),
                        out: tile.out.add(row * outputs + column),
                        ..tile
                    }
                };
                add::<S, 1, 1>(simd, entry);
            }
        }
    }
}

/// Adds the sums of a tile of `R` rows and `C` columns.
#[inline(always)]
#[allow(clippy::needless_range_loop)] // by index, the loops are unrolled and the sums stay in registers
fn add<S: Simd, const R: usize, const C: usize>(simd: S, tile: Tile<S::f32s>) {
    let Tile { x, weight, out, .. } = tile;
    let ([inputs, outputs], [first, last]) = (tile.strides, tile.along);
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; C]; R];
    // SAFETY: the tile lies in both matrices and in the product, whose entries no other task touches. A check at every access
    // would cost a quarter of the time.
    #[allow(unsafe_code)]
    unsafe {
        for input in first..last {
            let mut weights = [zero; C];
            for c in 0..C {
                weights[c] = *weight.add(c * inputs + input);
            }
            for r in 0..R {
                let x = *x.add(r * inputs + input);
                for c in 0..C {
                    sums[r][c] = simd.mul_add_e_f32s(x, weights[c], sums[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                *out.add(r * outputs + c) += simd.reduce_sum_f32s(sums[r][c]);
            }
        }
    }
}
