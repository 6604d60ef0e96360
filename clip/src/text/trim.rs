//! Texts without the padding behind them.

use super::{TextPool, TextTower, TextTransformer};
use crate::tokenizer::TokenBatch;
use burn::prelude::*;

/// Rows are cut to a multiple of this, so that devices that prepare themselves for a shape see few of them.
const STEP: usize = 8;

impl<B: Backend> TextTower<B> {
    /// Texts without the positions that no embedding depends on: where a position sees only itself and earlier ones, those behind
    /// the last that is pooled. Captions of a dozen words then take a third of the time, and their embeddings and gradients are
    /// what they were, to rounding. Texts of other towers are left as they are.
    pub fn trim(&self, texts: TokenBatch) -> TokenBatch {
        match self {
            Self::Transformer(tower) => tower.trim(texts),
        }
    }
}

impl<B: Backend> TextTransformer<B> {
    fn trim(&self, texts: TokenBatch) -> TokenBatch {
        if !self.transformer.causal || self.cls_emb.is_some() {
            return texts;
        }
        let last = texts.rows().map(|row| self.pool.position(row)).max();
        let read = last.map_or(0, |last| last + 1).next_multiple_of(STEP);
        texts.cut(read)
    }
}

impl TextPool {
    /// The position of a text that is pooled.
    fn position(self, ids: &[i32]) -> usize {
        let first = |wanted: i64| ids.iter().position(|&id| i64::from(id) == wanted);
        let found = match self {
            Self::Argmax => ids.iter().max().and_then(|&largest| first(largest.into())),
            Self::Eos(id) => first(id),
            Self::First => None,
            Self::Last => ids.len().checked_sub(1),
        };
        found.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Precision;
    use crate::config::ModelConfig;
    use burn::backend::Autodiff;
    use burn_flex::Flex;
    use serde_json::json;

    type B = Autodiff<Flex>;

    fn tower(fields: serde_json::Value) -> TextTower<B> {
        let mut config = serde_json::to_value(ModelConfig::preset("tiny").unwrap()).unwrap();
        for (name, value) in fields.as_object().unwrap() {
            config["text_cfg"][name] = value.clone();
        }
        let config = ModelConfig::from_json(&config).unwrap();
        let model = config.init(3, Precision::F32, &Default::default());
        model.text
    }

    /// Texts of so many tokens, each closed by the largest id, and zeros behind.
    fn texts(lengths: &[usize]) -> TokenBatch {
        let mut ids = Vec::new();
        for (row, &length) in lengths.iter().enumerate() {
            ids.extend((1..length as i32).map(|at| (at * 7 + row as i32) % 50 + 1));
            ids.push(60);
            ids.resize((row + 1) * 77, 0);
        }
        TokenBatch {
            ids,
            n: lengths.len(),
            context_length: 77,
        }
    }

    /// Embeddings, and gradients of positions and of the first block's attention.
    fn outcome(tower: &TextTower<B>, texts: TokenBatch) -> [TensorData; 3] {
        let TextTower::Transformer(inside) = tower;
        let embeddings = tower.forward(texts.to_tensor(&Default::default()));
        let weights = Tensor::arange(0..embeddings.dims()[1] as i64, &Default::default()).float();
        let gradients = (embeddings.clone() * weights.unsqueeze()).sum().backward();
        let positions = inside.positional_embedding.grad(&gradients).unwrap();
        let weight = &inside.transformer.resblocks[0].attn.in_proj_weight;
        [
            embeddings.into_data(),
            positions.into_data(),
            weight.grad(&gradients).unwrap().into_data(),
        ]
    }

    #[test]
    fn embeddings_and_gradients_of_trimmed_texts_are_those_of_whole_ones() {
        for (fields, lengths, kept) in [
            (json!({}), vec![5, 12, 3], 16),
            (json!({}), vec![8], 8),
            (json!({}), vec![77, 2], 77),
            (json!({"pool_type": "eos", "eos_id": 60}), vec![4, 17], 24),
            (json!({"pool_type": "eos", "eos_id": 61}), vec![4, 17], 8),
            (json!({"pool_type": "first"}), vec![20], 8),
        ] {
            let tower = tower(fields.clone());
            let whole = texts(&lengths);
            let trimmed = tower.trim(whole.clone());
            assert_eq!(trimmed.context_length, kept, "{fields}");
            assert_eq!(trimmed.n, lengths.len());
            let (got, wanted) = (outcome(&tower, trimmed), outcome(&tower, whole));
            for (got, wanted) in got.iter().zip(&wanted) {
                let pairs = got.iter::<f32>().zip(wanted.iter::<f32>());
                let (apart, largest) = pairs.fold((0.0, 0.0), |(apart, largest), (a, b)| {
                    (f32::max(apart, (a - b).abs()), f32::max(largest, b.abs()))
                });
                assert!(
                    largest > 0.0 && apart <= 1e-5 * largest,
                    "{apart} of {largest}"
                );
            }
        }
    }

    #[test]
    fn texts_whose_padding_is_read_stay_whole() {
        for fields in [
            json!({"pool_type": "last"}),
            json!({"no_causal_mask": true}),
            json!({"embed_cls": true}),
        ] {
            let whole = texts(&[5, 12]);
            assert_eq!(tower(fields).trim(whole.clone()), whole);
        }
    }

    #[test]
    fn no_texts_stay_none() {
        let none = tower(json!({})).trim(texts(&[]));
        assert_eq!((none.n, none.ids.len()), (0, 0));
    }
}
