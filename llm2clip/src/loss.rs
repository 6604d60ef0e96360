//! The loss of stage 1; that of stage 2 is CLIP's ([`clip::loss::by_rows::contrastive`]).

use burn::prelude::*;
use clip::loss::cross_entropy_from;
use clip::nn::l2_normalize;
use std::ops::Range;

/// Factor on cosines in the release.
pub const SCALE: f64 = 50.0;

/// Each query is to find its positive among all positives and all negatives (`HardNegativeNLLLoss` of LLM2Vec):
/// `-mean_i log softmax_j(scale · cos(q_i, [p; n]_j))_i`. One direction only. Of some rows it is their share of the mean.
///
/// # Shapes
///
/// - query, positive, negative: `[n, width]`, of any length
/// - output: `[1]`
pub fn hard_negatives<B: Backend>(
    rows: Range<usize>,
    query: Tensor<B, 2>,
    positive: Tensor<B, 2>,
    negative: Tensor<B, 2>,
    scale: f64,
) -> Tensor<B, 1> {
    let n = query.dims()[0];
    let documents = l2_normalize(Tensor::cat(vec![positive, negative], 0));
    let query = l2_normalize(query.narrow(0, rows.start, rows.len()));
    let logits = query.matmul(documents.transpose()) * scale;
    cross_entropy_from(rows.start, logits) / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn the_formula_by_hand() {
        let rows =
            |values: [[f32; 2]; 2]| Tensor::<Flex, 2>::from_data(values, &Default::default());
        let query = rows([[2.0, 0.0], [0.0, 3.0]]);
        let positive = rows([[1.0, 0.0], [1.0, 1.0]]);
        let negative = rows([[0.0, 5.0], [-1.0, 0.0]]);
        let loss = hard_negatives(0..2, query, positive, negative, 2.0).into_scalar();
        // Cosines: (1, √½, 0, -1) and (0, √½, 1, 0).
        let half = 0.5f64.sqrt();
        let row = |cosines: [f64; 4], own: usize| {
            let sum: f64 = cosines.iter().map(|c| (2.0 * c).exp()).sum();
            sum.ln() - 2.0 * cosines[own]
        };
        let expected = (row([1.0, half, 0.0, -1.0], 0) + row([0.0, half, 1.0, 0.0], 1)) / 2.0;
        assert!(
            (f64::from(loss) - expected).abs() < 1e-6,
            "{loss} {expected}"
        );
    }
}
