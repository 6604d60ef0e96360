//! Products `x weightᵀ` without a gradient whose time is that of reading the weight: few rows of `x`, which is what generation
//! consists of, or a weight in bf16, which is never made f32 as a whole.

use super::math::sum;
use super::matmul::{Matrix, matmul};
use super::parallel::vectorized;
use super::{made, shape};
use crate::Raw;
use crate::function::same;
use burn::prelude::*;
use burn::tensor::{DType, bf16};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Rows up to which the weight is read as it lies; above, a product in blocks pays.
const FEW: usize = 8;
/// Outputs of a task.
const OUTPUTS: usize = 4096;
/// Inputs of a task, where the weight lies input by input. Their shares are added in order, whatever the threads.
const INPUTS: usize = 128;
/// Outputs whose weights are made f32 at a time.
const PANEL: usize = 256;

/// `x weightᵀ` in the dtype of `x`; `None` under a gradient, and where burn's own product is as good.
pub(crate) fn product<B: Backend>(x: Raw<B>, weight: Raw<B>) -> Option<Raw<B>> {
    let [x, weight] = same([x, weight])?;
    same(of_flex(x, weight)?)
}

/// Not generic, so that its loops are compiled in this crate.
fn of_flex(x: FlexTensor, weight: FlexTensor) -> Option<FlexTensor> {
    let known = |tensor: &FlexTensor| matches!(tensor.dtype(), DType::F32 | DType::BF16);
    let (&[rows, inputs], &[outputs, width]) = (shape(&x), shape(&weight)) else {
        return None;
    };
    let fits = known(&x) && known(&weight) && inputs == width;
    if !fits || rows * inputs * outputs == 0 {
        return None;
    }
    let dtype = x.dtype();
    let x = widened(&x);
    let out = match weight.dtype() {
        DType::F32 if rows <= FEW => few(&x, rows, &View::of(&weight, weight.storage::<f32>())?),
        DType::BF16 if rows <= FEW => few(&x, rows, &View::of(&weight, weight.storage::<bf16>())?),
        DType::BF16 => in_panels(&x, rows, &View::of(&weight, weight.storage::<bf16>())?),
        _ => return None,
    };
    Some(match dtype {
        DType::BF16 => {
            let values: Vec<bf16> = out.into_iter().map(bf16::from_f32).collect();
            FlexTensor::from_data(TensorData::new(values, [rows, outputs]))
        }
        _ => made(out, &[rows, outputs]),
    })
}

fn widened(x: &FlexTensor) -> Vec<f32> {
    let x = x.to_contiguous();
    match x.dtype() {
        DType::BF16 => {
            let values = x.as_slice::<bf16>().expect("contiguous bf16");
            values.iter().map(|value| value.to_f32()).collect()
        }
        _ => super::floats(&x).to_vec(),
    }
}

/// A number that a weight is made of.
trait Entry: Copy + Send + Sync {
    fn wide(self) -> f32;
}

impl Entry for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Entry for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// A weight `[outputs, inputs]` as it lies in memory.
struct View<'a, E> {
    values: &'a [E],
    inputs: usize,
    outputs: usize,
    /// One input after the other, each with all outputs; else one output after the other.
    by_input: bool,
}

impl<'a, E: Entry> View<'a, E> {
    /// `None` if it lies in neither order.
    fn of(weight: &FlexTensor, stored: &'a [E]) -> Option<Self> {
        let &[outputs, inputs] = shape(weight) else {
            return None;
        };
        let layout = weight.layout();
        let by_input = match *layout.strides() {
            [out, 1] if out == inputs as isize => false,
            [1, input] if input == outputs as isize => true,
            _ => return None,
        };
        let start = layout.start_offset();
        let values = stored.get(start..start + inputs * outputs)?;
        Some(Self {
            values,
            inputs,
            outputs,
            by_input,
        })
    }
}

fn few<E: Entry>(x: &[f32], rows: usize, weight: &View<E>) -> Vec<f32> {
    match weight.by_input {
        true => along_outputs(x, rows, weight),
        false => along_inputs(x, rows, weight),
    }
}

/// Each output is a sum over a stretch of the weight.
fn along_inputs<E: Entry>(x: &[f32], rows: usize, weight: &View<E>) -> Vec<f32> {
    let (inputs, outputs) = (weight.inputs, weight.outputs);
    let each = (OUTPUTS * INPUTS / inputs).max(1);
    let stretches = weight.values.par_chunks(each * inputs);
    let parts: Vec<Vec<f32>> = stretches
        .map(|stretch| {
            let mut part = Vec::with_capacity(stretch.len() / inputs * rows);
            let mut wide = vec![0f32; inputs];
            vectorized!({
                for weights in stretch.chunks_exact(inputs) {
                    for (wide, weight) in wide.iter_mut().zip(weights) {
                        *wide = weight.wide();
                    }
                    for x in x.chunks_exact(inputs) {
                        part.push(sum(x, &wide, |x, weight| x * weight));
                    }
                }
            });
            part
        })
        .collect();
    let mut out = vec![0f32; rows * outputs];
    for (output, sums) in parts
        .iter()
        .flat_map(|part| part.chunks_exact(rows))
        .enumerate()
    {
        for (row, sum) in sums.iter().enumerate() {
            out[row * outputs + output] = *sum;
        }
    }
    out
}

/// Each input adds a stretch of the weight to the outputs.
fn along_outputs<E: Entry>(x: &[f32], rows: usize, weight: &View<E>) -> Vec<f32> {
    let (inputs, outputs) = (weight.inputs, weight.outputs);
    let (groups, tiles) = (inputs.div_ceil(INPUTS), outputs.div_ceil(OUTPUTS));
    let share = |task: usize| {
        let (group, tile) = (task / tiles, task % tiles);
        let (first, from) = (group * INPUTS, tile * OUTPUTS);
        let (last, to) = ((first + INPUTS).min(inputs), (from + OUTPUTS).min(outputs));
        let mut share = vec![0f32; rows * (to - from)];
        vectorized!({
            for input in first..last {
                let weights = &weight.values[input * outputs..][from..to];
                for (row, share) in share.chunks_exact_mut(to - from).enumerate() {
                    let x = x[row * inputs + input];
                    for (share, weight) in share.iter_mut().zip(weights) {
                        *share += x * weight.wide();
                    }
                }
            }
        });
        share
    };
    let shares: Vec<Vec<f32>> = (0..groups * tiles).into_par_iter().map(share).collect();
    let mut out = vec![0f32; rows * outputs];
    for (task, share) in shares.iter().enumerate() {
        let from = task % tiles * OUTPUTS;
        let width = share.len() / rows;
        for (row, share) in share.chunks_exact(width).enumerate() {
            let out = &mut out[row * outputs + from..][..width];
            out.iter_mut()
                .zip(share)
                .for_each(|(out, share)| *out += share);
        }
    }
    out
}

/// A few outputs at a time: their weights are made f32 in the cache, and multiplied there.
fn in_panels<E: Entry>(x: &[f32], rows: usize, weight: &View<E>) -> Vec<f32> {
    let (inputs, outputs) = (weight.inputs, weight.outputs);
    let panel = |from: usize| {
        let width = PANEL.min(outputs - from);
        let mut wide = vec![0f32; inputs * width];
        vectorized!({
            let lines = match weight.by_input {
                true => wide.chunks_exact_mut(width),
                false => wide.chunks_exact_mut(inputs),
            };
            for (line, wide) in lines.enumerate() {
                let from = match weight.by_input {
                    true => line * outputs + from,
                    false => (from + line) * inputs,
                };
                for (wide, weight) in wide.iter_mut().zip(&weight.values[from..]) {
                    *wide = weight.wide();
                }
            }
        });
        let wide = match weight.by_input {
            true => Matrix::new(&wide, inputs, width, width),
            false => Matrix::new(&wide, width, inputs, inputs).transposed(),
        };
        let mut part = vec![0f32; rows * width];
        let x = Matrix::new(x, rows, inputs, inputs);
        matmul(&mut part, width, 0.0, 1.0, x, wide, false);
        part
    };
    let starts = (0..outputs).into_par_iter().step_by(PANEL);
    let parts: Vec<Vec<f32>> = starts.map(panel).collect();
    let mut out = vec![0f32; rows * outputs];
    for (index, part) in parts.iter().enumerate() {
        let width = part.len() / rows;
        for (row, part) in part.chunks_exact(width).enumerate() {
            out[row * outputs + index * PANEL..][..width].copy_from_slice(part);
        }
    }
    out
}
