//! Contrastive losses: pure functions of embeddings and scale, in f32.

mod chunked;

use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::activation::{log_sigmoid, log_softmax};

/// Symmetric cross-entropy of image-to-text and text-to-image logits, where row `i` of both sides belongs together
/// (Radford et al., 2021, figure 3).
///
/// Batches beyond 4096 are taken in parts, so that no `[n, n]` matrix is held.
///
/// # Shapes
///
/// - image, text: `[n, embed_dim]`, unit rows
/// - logit_scale: `[1]`, the factor itself, not its logarithm
/// - output: `[1]`
pub fn contrastive<B: Backend>(
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
) -> Tensor<B, 1> {
    if image.dims()[0] > WHOLE {
        return chunked::contrastive(image, text, logit_scale, PART);
    }
    let logits = logits(image, text, logit_scale);
    (diagonal_cross_entropy(logits.clone()) + diagonal_cross_entropy(logits.transpose())) * 0.5
}

/// Pairwise sigmoid loss of SigLIP (Zhai et al., 2023, algorithm 1): every pair is a yes-or-no question.
///
/// Batches beyond 4096 are taken in parts, so that no `[n, n]` matrix is held.
///
/// # Shapes
///
/// - image, text: `[n, embed_dim]`, unit rows
/// - logit_scale, logit_bias: `[1]`
/// - output: `[1]`
pub fn sigmoid<B: Backend>(
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
    logit_bias: Tensor<B, 1>,
) -> Tensor<B, 1> {
    let [n, _] = image.dims();
    if n > WHOLE {
        return chunked::sigmoid(image, text, logit_scale, logit_bias, PART);
    }
    let logits = logits(image, text, logit_scale) + logit_bias.unsqueeze();
    // ln σ(z) = ln σ(−z) + z: all pairs are taken for wrong ones, and the right ones set right.
    let wrong = log_sigmoid(logits.clone().neg()).sum();
    (wrong + diagonal(logits, 0).sum()) / -(n as f64)
}

/// Up to this many rows the logits of a batch lie in memory as a whole: 64 MiB each.
const WHOLE: usize = 4096;

/// Rows of a part of a larger batch.
const PART: usize = 1024;

/// `logit_scale · image @ textᵀ`.
///
/// # Shapes
///
/// - image: `[n, embed_dim]`, text: `[m, embed_dim]`
/// - logit_scale: `[1]`
/// - output: `[n, m]`, f32
pub fn logits<B: Backend>(
    image: Tensor<B, 2>,
    text: Tensor<B, 2>,
    logit_scale: Tensor<B, 1>,
) -> Tensor<B, 2> {
    let (image, text) = (image.cast(DType::F32), text.cast(DType::F32));
    image.matmul(text.transpose()) * logit_scale.cast(DType::F32).unsqueeze()
}

/// Mean over rows of the cross-entropy whose right answer in row `i` is column `i`.
///
/// # Shapes
///
/// - logits: `[n, m]` with `m ≥ n`
/// - output: `[1]`
pub fn diagonal_cross_entropy<B: Backend>(logits: Tensor<B, 2>) -> Tensor<B, 1> {
    diagonal(log_softmax(logits, 1), 0).mean().neg()
}

/// Entry `first + i` of every row `i`, `[n, 1]`.
fn diagonal<B: Backend>(values: Tensor<B, 2>, first: usize) -> Tensor<B, 2> {
    let [n, _] = values.dims();
    let index = Tensor::<B, 1, Int>::arange(first as i64..(first + n) as i64, &values.device());
    values.gather(1, index.unsqueeze_dim::<2>(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn rows(values: [[f32; 2]; 2]) -> Tensor<Flex, 2> {
        Tensor::from_data(values, &Default::default())
    }

    #[test]
    fn matched_orthogonal_pairs_have_the_loss_of_the_formula() {
        // Logits are [[s, 0], [0, s]]; every row contributes ln(1 + e^-s).
        let scale = Tensor::from_data([3.0], &Default::default());
        let eye = rows([[1.0, 0.0], [0.0, 1.0]]);
        let loss = contrastive(eye.clone(), eye, scale).into_scalar();
        assert!((loss - (1.0 + (-3f32).exp()).ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn sigmoid_loss_counts_every_pair() {
        let device = Default::default();
        let (scale, bias) = (
            Tensor::from_data([2.0], &device),
            Tensor::from_data([-1.0], &device),
        );
        let eye = rows([[1.0, 0.0], [0.0, 1.0]]);
        let loss = sigmoid(eye.clone(), eye, scale, bias).into_scalar();
        // Two pairs with logit 1 that should be yes, two with -1 that should be no, over two rows.
        let expected = 2.0 * (1.0 + (-1f32).exp()).ln();
        assert!((loss - expected).abs() < 1e-6, "{loss} {expected}");
    }
}
