//! The losses of training, a chunk of rows at a time: no matrix of all pairs is ever alive.
//!
//! Of 32,768 pairs it would take 4 GiB, several times over in a graph. Here each chunk is a graph of its own, whose
//! gradients are taken before the next one is made; the result is a scalar with the value of the loss and these
//! gradients. A chunk is computed once forward and once backward, as in the plain form.
//!
//! Each takes the rows that it answers for: all, or on one of several devices its own, whose losses add up to the whole.

use super::{cross_entropy_from, logits, signs};
use burn::prelude::*;
use burn::tensor::activation::log_sigmoid;
use burn::tensor::backend::AutodiffBackend;
use std::ops::Range;

/// Logits of a chunk: 64 MiB in f32.
const LOGITS: usize = 1 << 24;

/// The share of some rows in [`super::contrastive`], in chunks.
///
/// # Shapes
///
/// - image, text: `[n, embed_dim]`, unit rows
/// - logit_scale: `[1]`, the factor itself
/// - output: `[1]`
pub fn contrastive<B: AutodiffBackend>(
    rows: Range<usize>,
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let chunk = rows_of(image.dims()[0]);
    contrastive_in(chunk, rows, image, text, logit_scale)
}

/// [`contrastive`] with so many rows in a chunk.
pub fn contrastive_in<B: AutodiffBackend>(
    chunk: usize,
    rows: Range<usize>,
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let n = image.dims()[0];
    let inputs = vec![image, text];
    in_chunks(
        rows,
        chunk,
        inputs,
        vec![logit_scale],
        |rows, all, scale| {
            let direction = |from: &Tensor<B, 2>, to: &Tensor<B, 2>| {
                let from = from.clone().narrow(0, rows.start, rows.len());
                cross_entropy_from(rows.start, logits(from, to.clone(), scale[0].clone()))
            };
            (direction(&all[0], &all[1]) + direction(&all[1], &all[0])) * (0.5 / n as f64)
        },
    )
}

/// The share of some rows in [`super::sigmoid`], in chunks.
///
/// # Shapes
///
/// - image, text: `[n, embed_dim]`, unit rows
/// - logit_scale, logit_bias: `[1]`
/// - output: `[1]`
pub fn sigmoid<B: AutodiffBackend>(
    rows: Range<usize>,
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
    logit_bias: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let chunk = rows_of(image.dims()[0]);
    sigmoid_in(chunk, rows, image, text, logit_scale, logit_bias)
}

/// [`sigmoid`] with so many rows in a chunk.
pub fn sigmoid_in<B: AutodiffBackend>(
    chunk: usize,
    rows: Range<usize>,
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
    logit_bias: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let (n, device) = (image.dims()[0], image.device());
    let scalars = vec![logit_scale, logit_bias];
    in_chunks(
        rows,
        chunk,
        vec![image, text],
        scalars,
        |rows, all, scalars| {
            let image = all[0].clone().narrow(0, rows.start, rows.len());
            let logits = logits(image, all[1].clone(), scalars[0].clone());
            let logits = logits + scalars[1].clone().unsqueeze();
            let signs = signs(rows.start, [rows.len(), n], &device);
            log_sigmoid(logits * signs).sum() / -(n as f64)
        },
    )
}

/// Rows of a chunk where each has `columns` logits.
pub fn rows_of(columns: usize) -> usize {
    (LOGITS / columns.max(1)).max(1)
}

/// The sum of `part` over `rows`, `chunk` of them at a time, each chunk in a graph of its own: `part` sees all embeddings
/// and scalars, and the rows it has to answer for.
///
/// # Shapes
///
/// - embeddings: each `[n, embed_dim]`
/// - scalars: each `[1]`
/// - output of `part`, and of this: `[1]`
pub fn in_chunks<B: AutodiffBackend>(
    rows: Range<usize>,
    chunk: usize,
    embeddings: Vec<Tensor<B, 2>>,
    scalars: Vec<Tensor<B, 1>>,
    part: impl Fn(Range<usize>, &[Tensor<B, 2>], &[Tensor<B, 1>]) -> Tensor<B, 1>,
) -> Tensor<B, 1> {
    if rows.len() <= chunk {
        return part(rows, &embeddings, &scalars);
    }
    let mut of_embeddings = Sums::new(&embeddings);
    let mut of_scalars = Sums::new(&scalars);
    let mut value: Option<Tensor<B::InnerBackend, 1>> = None;
    for start in rows.clone().step_by(chunk) {
        let (embeddings, scalars) = (of_embeddings.leaves(), of_scalars.leaves());
        let loss = part(start..rows.end.min(start + chunk), &embeddings, &scalars);
        let so_far = value.take();
        let now = loss.clone().inner();
        value = Some(so_far.map_or(now.clone(), |sum| sum + now));
        let mut grads = loss.backward();
        of_embeddings.add(embeddings, &mut grads);
        of_scalars.add(scalars, &mut grads);
    }
    let value = Tensor::from_inner(value.expect("there are rows"));
    // There may be no scalars, and there are always embeddings.
    let device = embeddings[0].device();
    value + of_embeddings.carry(embeddings, &device) + of_scalars.carry(scalars, &device)
}

/// Values of some inputs, and the gradients with respect to them so far.
struct Sums<B: AutodiffBackend, const D: usize> {
    values: Vec<Tensor<B::InnerBackend, D>>,
    gradients: Vec<Option<Tensor<B::InnerBackend, D>>>,
}

impl<B: AutodiffBackend, const D: usize> Sums<B, D> {
    fn new(inputs: &[Tensor<B, D>]) -> Self {
        Self {
            values: inputs.iter().map(|input| input.clone().inner()).collect(),
            gradients: inputs.iter().map(|_| None).collect(),
        }
    }

    /// Fresh starts of a graph.
    fn leaves(&self) -> Vec<Tensor<B, D>> {
        let leaf =
            |value: &Tensor<B::InnerBackend, D>| Tensor::from_inner(value.clone()).require_grad();
        self.values.iter().map(leaf).collect()
    }

    fn add(&mut self, leaves: Vec<Tensor<B, D>>, grads: &mut B::Gradients) {
        for (leaf, sum) in leaves.into_iter().zip(&mut self.gradients) {
            if let Some(new) = leaf.grad_remove(grads) {
                *sum = Some(sum.take().map_or(new.clone(), |sum| sum + new));
            }
        }
    }

    /// A zero in the graph of the inputs whose gradients are those that were summed.
    fn carry(self, inputs: Vec<Tensor<B, D>>, device: &Device<B>) -> Tensor<B, 1> {
        let mut zero = Tensor::<B, 1>::zeros([1], device);
        for ((input, value), gradient) in inputs.into_iter().zip(self.values).zip(self.gradients) {
            let Some(gradient) = gradient else { continue };
            let constant = Tensor::<B, 1>::from_inner((value * gradient.clone()).sum());
            // Both sums are of the same numbers in the same order, so they cancel exactly.
            zero = zero + ((input * Tensor::from_inner(gradient)).sum() - constant);
        }
        zero
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss;
    use burn::backend::Autodiff;
    use burn_flex::Flex;

    type Train = Autodiff<Flex>;

    struct Inputs {
        image: Tensor<Train, 2>,
        text: Tensor<Train, 2>,
        scale: Tensor<Train, 1>,
        bias: Tensor<Train, 1>,
    }

    fn inputs(n: usize) -> Inputs {
        let device = Default::default();
        let rows = |seed: usize| {
            let values = (0..n * 5).map(|i| ((i * 7 + seed * 13) as f32).sin());
            let data = TensorData::new(values.collect::<Vec<_>>(), [n, 5]);
            Tensor::<Train, 2>::from_data(data, &device).require_grad()
        };
        Inputs {
            image: rows(1),
            text: rows(2),
            scale: Tensor::from_data([2.5], &device).require_grad(),
            bias: Tensor::from_data([-1.5], &device).require_grad(),
        }
    }

    /// The value, and the gradients of all inputs.
    fn measured(loss: Tensor<Train, 1>, of: &Inputs) -> (f32, Vec<Vec<f32>>) {
        let value = loss.clone().into_scalar();
        let grads = loss.backward();
        let host = |data: Option<TensorData>| data.map_or(Vec::new(), |d| d.to_vec().unwrap());
        let gradients = vec![
            host(of.image.grad(&grads).map(Tensor::into_data)),
            host(of.text.grad(&grads).map(Tensor::into_data)),
            host(of.scale.grad(&grads).map(Tensor::into_data)),
            host(of.bias.grad(&grads).map(Tensor::into_data)),
        ];
        (value, gradients)
    }

    fn assert_equal(got: (f32, Vec<Vec<f32>>), want: &(f32, Vec<Vec<f32>>), what: &str) {
        assert!(
            (got.0 - want.0).abs() < 1e-6,
            "{what}: {} {}",
            got.0,
            want.0
        );
        for (got, want) in got.1.iter().zip(&want.1) {
            assert_eq!(got.len(), want.len(), "{what}");
            for (a, b) in got.iter().zip(want) {
                assert!((a - b).abs() < 1e-6, "{what}: {a} {b}");
            }
        }
    }

    #[test]
    fn chunks_give_the_value_and_the_gradients_of_the_plain_form() {
        for n in [1, 2, 7, 12] {
            let of = inputs(n);
            let Inputs {
                image,
                text,
                scale,
                bias,
            } = &of;
            let (i, t, s, b) = (image.clone(), text.clone(), scale.clone(), bias.clone());
            let plain = measured(loss::contrastive(i, t, s), &of);
            let (i, t, s) = (image.clone(), text.clone(), scale.clone());
            let plain_sigmoid = measured(loss::sigmoid(i, t, s, b), &of);
            for chunk in [1, 3, 5, 12, 20] {
                let what = format!("{n} rows in chunks of {chunk}");
                let (i, t, s, b) = (image.clone(), text.clone(), scale.clone(), bias.clone());
                assert_equal(
                    measured(contrastive_in(chunk, 0..n, i, t, s), &of),
                    &plain,
                    &what,
                );
                let (i, t, s) = (image.clone(), text.clone(), scale.clone());
                let sigmoid = measured(sigmoid_in(chunk, 0..n, i, t, s, b), &of);
                assert_equal(sigmoid, &plain_sigmoid, &what);
            }
        }
    }

    /// A penalty has no logit scale.
    #[test]
    fn a_loss_without_scalars_is_the_same_in_chunks() {
        let of = inputs(7);
        let loss = |chunk: usize| {
            let embeddings = vec![of.image.clone(), of.text.clone()];
            let sum = in_chunks(0..7, chunk, embeddings, Vec::new(), |rows, all, _| {
                let image = all[0].clone().narrow(0, rows.start, rows.len());
                image.matmul(all[1].clone().transpose()).square().sum()
            });
            measured(sum / 49.0, &of)
        };
        assert_equal(loss(3), &loss(7), "in chunks of 3");
    }

    #[test]
    fn a_frozen_side_takes_no_gradient() {
        let of = inputs(6);
        let image = of.image.clone().detach();
        let loss = contrastive_in(2, 0..6, image, of.text.clone(), of.scale.clone());
        let grads = loss.backward();
        assert!(of.image.grad(&grads).is_none());
        assert!(of.text.grad(&grads).is_some());
    }
}
