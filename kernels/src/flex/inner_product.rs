//! Products `x weightᵀ` on CPUs with AVX-512. Both matrices lie input by input, so every entry of the product is a sum along two
//! stretches of memory. A product in blocks would first bring the weight into another order; done without that, it is half as
//! fast again for the tokens of a few images, and still ahead for those of a large batch.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Floats of a vector.
const LANES: usize = 16;
/// Outputs of a task.
const OUTPUTS: usize = 128;
/// Rows, and inputs, at a time: they stay in a core's own cache.
const ROWS: usize = 256;
const INPUTS: usize = 1024;
/// Rows and outputs of a tile, whose sums are in registers.
const HEIGHT: usize = 6;
const WIDTH: usize = 4;

/// Adds `x weightᵀ` to `out`, on all cores; `false` where that is not the better way.
///
/// # Shapes
///
/// - out: `[rows, outputs]`
/// - x: `[rows, inputs]`
/// - weight: `[outputs, inputs]`
pub(super) fn add_product(out: &mut [f32], x: &[f32], weight: &[f32], inputs: usize) -> bool {
    if inputs == 0 || !inputs.is_multiple_of(LANES) || !Arch::new().dispatch(IsWide) {
        return false;
    }
    let (rows, outputs) = (x.len() / inputs, weight.len() / inputs);
    assert_eq!(out.len(), rows * outputs);
    let panel = |weight: &[f32]| {
        let mut out = vec![0f32; rows * (weight.len() / inputs)];
        Arch::new().dispatch(Panel {
            out: &mut out,
            x,
            weight,
            inputs,
        });
        out
    };
    let panels = weight.par_chunks(OUTPUTS * inputs);
    let parts: Vec<Vec<f32>> = panels.map(panel).collect();
    for (index, part) in parts.iter().enumerate() {
        let width = (outputs - index * OUTPUTS).min(OUTPUTS);
        for (row, part) in part.chunks_exact(width).enumerate() {
            let out = &mut out[row * outputs + index * OUTPUTS..][..width];
            out.iter_mut()
                .zip(part)
                .for_each(|(out, part)| *out += part);
        }
    }
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

/// Some outputs of all rows.
struct Panel<'a> {
    /// `[rows, outputs]`.
    out: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    inputs: usize,
}

impl WithSimd for Panel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, _) = S::as_simd_f32s(self.x);
        let (weight, _) = S::as_simd_f32s(self.weight);
        let (inputs, most) = (self.inputs / S::F32_LANES, INPUTS / S::F32_LANES);
        let (rows, columns) = (x.len() / inputs, weight.len() / inputs);
        for block in (0..rows).step_by(ROWS) {
            let end = (block + ROWS).min(rows);
            for first in (0..inputs).step_by(most) {
                let along = [first, (first + most).min(inputs)];
                for column in (0..columns).step_by(WIDTH) {
                    let mut row = block;
                    while row < end {
                        // Of nearly the same height, all of them.
                        let left = end - row;
                        let size = [
                            left.div_ceil(left.div_ceil(HEIGHT)),
                            WIDTH.min(columns - column),
                        ];
                        let tile = Tile {
                            x,
                            weight,
                            inputs,
                            row,
                            column,
                            along,
                        };
                        add_tile(simd, tile, size, self.out, columns);
                        row += size[0];
                    }
                }
            }
        }
    }
}

/// Rows from `row` on and outputs from `column` on, along some of the inputs, which are counted in vectors.
#[derive(Clone, Copy)]
struct Tile<'a, V> {
    x: &'a [V],
    weight: &'a [V],
    inputs: usize,
    row: usize,
    column: usize,
    along: [usize; 2],
}

/// Adds the sums of a tile of some rows and outputs to `out`, whose rows are `columns` long.
#[inline(always)]
fn add_tile<S: Simd>(
    simd: S,
    tile: Tile<S::f32s>,
    size: [usize; 2],
    out: &mut [f32],
    columns: usize,
) {
    let place = &mut out[tile.row * columns + tile.column..];
    match size {
        [6, WIDTH] => add::<S, 6, WIDTH>(simd, tile, place, columns),
        [5, WIDTH] => add::<S, 5, WIDTH>(simd, tile, place, columns),
        [4, WIDTH] => add::<S, 4, WIDTH>(simd, tile, place, columns),
        [3, WIDTH] => add::<S, 3, WIDTH>(simd, tile, place, columns),
        [2, WIDTH] => add::<S, 2, WIDTH>(simd, tile, place, columns),
        [1, WIDTH] => add::<S, 1, WIDTH>(simd, tile, place, columns),
        [height, width] => {
            for at in 0..height * width {
                let (down, right) = (at / width, at % width);
                let tile = Tile {
                    row: tile.row + down,
                    column: tile.column + right,
                    ..tile
                };
                add::<S, 1, 1>(simd, tile, &mut place[down * columns + right..], columns);
            }
        }
    }
}

/// Adds the sums of a tile of `R` rows and `C` outputs to `out`, whose rows lie `stride` apart.
#[inline(always)]
fn add<S: Simd, const R: usize, const C: usize>(
    simd: S,
    tile: Tile<S::f32s>,
    out: &mut [f32],
    stride: usize,
) {
    let Tile {
        x, weight, inputs, ..
    } = tile;
    let [first, last] = tile.along;
    let ([x_end, weight_end], end) = ([tile.row + R, tile.column + C], last <= inputs);
    assert!(end && x_end * inputs <= x.len() && weight_end * inputs <= weight.len());
    let zero = simd.splat_f32s(0.0);
    let mut sums = [[zero; C]; R];
    // SAFETY: the whole tile lies in both matrices, as asserted. A check at every access would cost a quarter of the time.
    #[allow(unsafe_code)]
    unsafe {
        let x = x.as_ptr().add(tile.row * inputs);
        let weight = weight.as_ptr().add(tile.column * inputs);
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
    }
    for r in 0..R {
        for c in 0..C {
            out[r * stride + c] += simd.reduce_sum_f32s(sums[r][c]);
        }
    }
}
