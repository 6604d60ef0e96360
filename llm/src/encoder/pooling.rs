use super::TextRows;
use super::options::Pooling;
use burn::prelude::*;
use burn::tensor::{DType, TensorData};

impl Pooling {
    /// One vector per row, in f32 and not normalised.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, seq, width]`, padded on the left as `rows` are
    /// - output: `[batch, width]`
    pub fn pool<B: Backend>(self, hidden: Tensor<B, 3>, rows: &TextRows) -> Tensor<B, 2> {
        let [batch, seq, _] = hidden.dims();
        let weights =
            (0..batch).flat_map(|row| self.weights(rows.lengths[row], rows.own[row], seq));
        let weights = TensorData::new(weights.collect::<Vec<f32>>(), [batch, 1, seq]);
        let weights = Tensor::from_data(weights, (&hidden.device(), DType::F32));
        weights.matmul(hidden.cast(DType::F32)).squeeze_dim(1)
    }

    /// One weight per position of a row with `length` tokens at its end, the last `own` of which are the text's.
    fn weights(self, length: usize, own: usize, seq: usize) -> impl Iterator<Item = f32> {
        let first = seq - own;
        let total = (own * (own + 1)) as f32 / 2.0;
        (0..seq).map(move |at| match self {
            Self::Mean if at >= first => 1.0 / own as f32,
            Self::WeightedMean if at >= first => (at - first + 1) as f32 / total,
            Self::Last | Self::Eos if at + 1 == seq => 1.0,
            Self::Bos if at == seq - length => 1.0,
            _ => 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_fall_on_the_texts_tokens_and_sum_to_one() {
        let weights = |pooling: Pooling| pooling.weights(4, 3, 6).collect::<Vec<_>>();
        let third = 1.0 / 3.0;
        assert_eq!(weights(Pooling::Mean), [0.0, 0.0, 0.0, third, third, third]);
        let rising = [0.0, 0.0, 0.0, 1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0];
        assert_eq!(weights(Pooling::WeightedMean), rising);
        assert_eq!(weights(Pooling::Last), [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(weights(Pooling::Eos), weights(Pooling::Last));
        assert_eq!(weights(Pooling::Bos), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
