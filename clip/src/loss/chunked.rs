//! The losses of a large batch, part by part of its rows, with gradients by formula.
//!
//! A graph over all parts would hold what the parts are there to avoid. So the loss and its gradients are computed from
//! values alone, and the result is a function that has this value and these gradients: `value + Σ (x − x₀) · gradient`.

use super::{diagonal, logits};
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::{log_sigmoid, log_softmax, sigmoid as logistic};

/// [`super::contrastive`] in parts of `rows` rows.
pub(super) fn contrastive<B: Backend>(
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
    rows: usize,
) -> Tensor<B, 1> {
    let whole = Inputs::new(image, text, logit_scale);
    let n = whole.rows();
    let mut sums = Sums::zeros(&whole);
    // Once for the images against all texts, once the other way round; each row's softmax lies in one part.
    for turned in [false, true] {
        for start in (0..n).step_by(rows) {
            let part = whole.part(start, rows.min(n - start), turned);
            let log_p = log_softmax(part.logits(&whole), 1);
            sums.value = sums.value - diagonal(log_p.clone(), start).sum() / (2 * n) as f64;
            let gradient = part.without_diagonal(log_p.exp(), 1.0) / (2 * n) as f64;
            sums.add(&whole, &part, gradient);
        }
    }
    sums.into_loss(whole, None)
}

/// [`super::sigmoid`] in parts of `rows` rows.
pub(super) fn sigmoid<B: Backend>(
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
    logit_bias: Tensor<B, 1>,
    rows: usize,
) -> Tensor<B, 1> {
    let whole = Inputs::new(image, text, logit_scale);
    let n = whole.rows();
    let bias = logit_bias.clone().detach().cast(DType::F32);
    let mut sums = Sums::zeros(&whole);
    for start in (0..n).step_by(rows) {
        let part = whole.part(start, rows.min(n - start), false);
        let z = part.logits(&whole) + bias.clone().unsqueeze();
        let value = log_sigmoid(z.clone().neg()).sum() + diagonal(z.clone(), start).sum();
        sums.value = sums.value - value / n as f64;
        let gradient = part.without_diagonal(logistic(z), 1.0) / n as f64;
        sums.add(&whole, &part, gradient);
    }
    sums.into_loss(whole, Some(logit_bias))
}

/// What the loss is a function of.
struct Inputs<B: Backend> {
    tracked: (Tensor<B, 2>, Tensor<B, 2>, Tensor<B, 1>),
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    scale: Tensor<B, 1>,
}

/// Some rows of one side, to be compared with all of the other.
struct Part<B: Backend> {
    rows: Tensor<B, 2>,
    start: usize,
    /// Whether they are texts.
    turned: bool,
}

impl<B: Backend> Inputs<B> {
    fn new(image: Tensor<B, 2>, text: Tensor<B, 2>, scale: Tensor<B, 1>) -> Self {
        Self {
            image: image.clone().detach().cast(DType::F32),
            text: text.clone().detach().cast(DType::F32),
            scale: scale.clone().detach().cast(DType::F32),
            tracked: (image, text, scale),
        }
    }

    fn rows(&self) -> usize {
        self.image.dims()[0]
    }

    fn part(&self, start: usize, rows: usize, turned: bool) -> Part<B> {
        let side = if turned { &self.text } else { &self.image };
        Part {
            rows: side.clone().narrow(0, start, rows),
            start,
            turned,
        }
    }

    /// The side that a part is compared with.
    fn other(&self, part: &Part<B>) -> Tensor<B, 2> {
        let side = if part.turned { &self.image } else { &self.text };
        side.clone()
    }
}

impl<B: Backend> Part<B> {
    /// `[rows, n]`.
    fn logits(&self, whole: &Inputs<B>) -> Tensor<B, 2> {
        logits(self.rows.clone(), whole.other(self), whole.scale.clone())
    }

    /// `values` less `amount` where row and column belong together.
    fn without_diagonal(&self, values: Tensor<B, 2>, amount: f64) -> Tensor<B, 2> {
        let [rows, _] = values.dims();
        let device = values.device();
        let (start, end) = (self.start as i64, (self.start + rows) as i64);
        let index = Tensor::<B, 1, Int>::arange(start..end, &device).unsqueeze_dim::<2>(1);
        let amounts = Tensor::full([rows, 1], -amount, (&device, DType::F32));
        values.scatter(1, index, amounts, burn::tensor::IndexingUpdateOp::Add)
    }
}

/// The loss and its gradients, as far as they have been added up.
struct Sums<B: Backend> {
    value: Tensor<B, 1>,
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    scale: Tensor<B, 1>,
    bias: Tensor<B, 1>,
}

impl<B: Backend> Sums<B> {
    fn zeros(whole: &Inputs<B>) -> Self {
        let device = whole.image.device();
        let one = || Tensor::zeros([1], (&device, DType::F32));
        Self {
            value: one(),
            image: Tensor::zeros(whole.image.dims(), (&device, DType::F32)),
            text: Tensor::zeros(whole.text.dims(), (&device, DType::F32)),
            scale: one(),
            bias: one(),
        }
    }

    /// Adds what a part contributes, given the gradient of its logits, `[rows, n]`.
    fn add(&mut self, whole: &Inputs<B>, part: &Part<B>, gradient: Tensor<B, 2>) {
        let other = whole.other(part);
        let scale = whole.scale.clone().unsqueeze::<2>();
        let of_rows = gradient.clone().matmul(other); // [rows, embed_dim], without the scale
        let of_other = gradient.clone().transpose().matmul(part.rows.clone()) * scale.clone();
        self.bias = self.bias.clone() + gradient.sum();
        self.scale = self.scale.clone() + (of_rows.clone() * part.rows.clone()).sum();
        let (own, others) = match part.turned {
            false => (&mut self.image, &mut self.text),
            true => (&mut self.text, &mut self.image),
        };
        let [rows, dim] = part.rows.dims();
        let range = [part.start..part.start + rows, 0..dim];
        let sum = own.clone().slice(range.clone()) + of_rows * scale;
        *own = own.clone().slice_assign(range, sum);
        *others = others.clone() + of_other;
    }

    fn into_loss(self, whole: Inputs<B>, bias: Option<Tensor<B, 1>>) -> Tensor<B, 1> {
        let (image, text, scale) = whole.tracked;
        let mut loss = self.value
            + linear(image, whole.image, self.image)
            + linear(text, whole.text, self.text)
            + linear(scale, whole.scale, self.scale);
        if let Some(bias) = bias {
            let at = bias.clone().detach().cast(DType::F32);
            loss = loss + linear(bias, at, self.bias);
        }
        loss
    }
}

/// Zero, with this gradient.
fn linear<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    at: Tensor<B, D>,
    gradient: Tensor<B, D>,
) -> Tensor<B, 1> {
    ((x.cast(DType::F32) - at) * gradient).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{contrastive as plain_contrastive, sigmoid as plain_sigmoid};
    use super::*;
    use crate::nn::init::Init;
    use crate::nn::l2_normalize;
    use burn::backend::Autodiff;
    use burn_flex::Flex;

    type A = Autodiff<Flex>;

    /// The loss and its gradients by image, text, scale and bias.
    fn results(
        loss: impl Fn(Tensor<A, 2>, Tensor<A, 2>, Tensor<A, 1>, Tensor<A, 1>) -> Tensor<A, 1>,
    ) -> Vec<Vec<f32>> {
        let device = Default::default();
        let mut init = Init::seeded(3);
        let mut rows = || init.normal::<A, 2>([23, 7], 1.0, &device).val().detach();
        let (image, text) = (rows().require_grad(), rows().require_grad());
        let number = |x: f32| Tensor::<A, 1>::from_data([x], &device).require_grad();
        let (scale, bias) = (number(5.0), number(-2.0));
        let value = loss(
            l2_normalize(image.clone()),
            l2_normalize(text.clone()),
            scale.clone(),
            bias.clone(),
        );
        let mut grads = value.clone().backward();
        let of = |data: TensorData| data.to_vec::<f32>().unwrap();
        let bias = bias
            .grad_remove(&mut grads)
            .map(|grad| of(grad.into_data()));
        vec![
            of(value.into_data()),
            of(image.grad_remove(&mut grads).unwrap().into_data()),
            of(text.grad_remove(&mut grads).unwrap().into_data()),
            of(scale.grad_remove(&mut grads).unwrap().into_data()),
            bias.unwrap_or_default(),
        ]
    }

    fn assert_equal(got: Vec<Vec<f32>>, expected: Vec<Vec<f32>>) {
        for (got, expected) in got.into_iter().zip(expected) {
            assert_eq!(got.len(), expected.len());
            let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
            for (a, b) in got.iter().zip(&expected) {
                assert!((a - b).abs() <= 2e-6 * largest, "{a} for {b}");
            }
        }
    }

    #[test]
    fn parts_give_the_loss_and_the_gradients_of_the_whole() {
        for rows in [1, 5, 23, 100] {
            assert_equal(
                results(|image, text, scale, _| contrastive(image, text, scale, rows)),
                results(|image, text, scale, _| plain_contrastive(image, text, scale)),
            );
            assert_equal(
                results(|image, text, scale, bias| sigmoid(image, text, scale, bias, rows)),
                results(plain_sigmoid),
            );
        }
    }
}
