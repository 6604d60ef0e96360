//! One AdamW update in one pass, in the order of operations of the plain form: equal to it to the last bit.

use super::parallel::{TASK, vectorized};
use super::{floats, made, shape};
use crate::function::same;
use crate::{AdamW, Raw};
use burn::prelude::*;
use burn::tensor::DType;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Weights and moments after the update, from weights, gradient and moments.
pub(crate) fn adamw<B: Backend>(numbers: AdamW, tensors: [Raw<B>; 4]) -> Option<[Raw<B>; 3]> {
    let tensors: [FlexTensor; 4] = same(tensors)?;
    let n = shape(&tensors[0]).to_vec();
    let fit = |tensor: &FlexTensor| tensor.dtype() == DType::F32 && shape(tensor) == n;
    if !tensors.iter().all(fit) {
        return None;
    }
    let [weights, gradient, exp_avg, exp_avg_sq] = tensors.map(|tensor| tensor.to_contiguous());
    let mut made_of = [&weights, &exp_avg, &exp_avg_sq].map(|tensor| floats(tensor).to_vec());
    let [w, m, v] = &mut made_of;
    let tasks = w.par_chunks_mut(TASK).zip(m.par_chunks_mut(TASK));
    let tasks = tasks.zip(v.par_chunks_mut(TASK));
    let tasks = tasks.zip(floats(&gradient).par_chunks(TASK));
    tasks.for_each(|(((w, m), v), g)| update(numbers, w, m, v, g));
    same(made_of.map(|values| made(values, &n)))
}

fn update(numbers: AdamW, w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
    let AdamW {
        beta1,
        beta2,
        eps,
        step_size,
        root,
        keep,
    } = numbers;
    let [beta1, rest1] = [beta1, 1.0 - beta1].map(|x| x as f32);
    let [beta2, rest2] = [beta2, 1.0 - beta2].map(|x| x as f32);
    let [eps, step_size, root, keep] = [eps, step_size, root, keep].map(|x| x as f32);
    vectorized!({
        let moments = m.iter_mut().zip(v);
        for ((w, (m, v)), g) in w.iter_mut().zip(moments).zip(g) {
            *m = *m * beta1 + g * rest1;
            *v = *v * beta2 + g * g * rest2;
            *w = *w * keep - *m * step_size / (v.sqrt() / root + eps);
        }
    });
}
