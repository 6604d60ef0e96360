//! What evaluation needs of a model.

use burn::tensor::{Tensor, backend::Backend};
use clip::Pretrained;
use clip::nn::l2_normalize;
use clip::preprocess::Preprocess;
use clip::tokenizer::Tokenizer;

use crate::error::{EvalError, Result};
use crate::identity::identity;

/// A model that embeds texts.
pub trait TextEncoder<B: Backend> {
    /// Length of an embedding.
    fn embed_dim(&self) -> usize;

    /// Embeds texts. Rows are as the tower gives them, of any length.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, embed_dim]`
    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>>;

    /// [`text_embeddings`](Self::text_embeddings) in rows of unit length.
    fn encode_texts(&self, texts: &[String]) -> Result<Tensor<B, 2>> {
        Ok(l2_normalize(self.text_embeddings(texts)?))
    }

    /// What the model is: two encoders of the same identity give the same embeddings, up to the rounding of their
    /// backend and precision. `None` if that is not known. May take a while.
    fn identity(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// How many of the texts lose their end because the context is too short, if the encoder can tell.
    fn truncated(&self, _texts: &[String]) -> Option<usize> {
        None
    }
}

/// A model that puts images and texts into one space, of [`embed_dim`](TextEncoder::embed_dim) dimensions.
pub trait DualEncoder<B: Backend>: TextEncoder<B> {
    /// How images are brought to the model's size and range.
    fn preprocess(&self) -> &Preprocess;

    /// Embeds preprocessed images. Rows are as the tower gives them, of any length.
    ///
    /// # Shapes
    ///
    /// - images: `[batch, 3, height, width]`
    /// - output: `[batch, embed_dim]`
    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2>;

    /// [`image_embeddings`](Self::image_embeddings) in rows of unit length.
    fn encode_images(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        l2_normalize(self.image_embeddings(images))
    }

    /// The factor by which cosines become logits, `exp(logit_scale)`, if the model has learned one. It changes
    /// probabilities, and neither ranks nor accuracies.
    fn scale(&self) -> Option<f32> {
        None
    }
}

impl<B: Backend> TextEncoder<B> for Pretrained<B> {
    fn embed_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<B, 2>> {
        let ids = self
            .tokenizer
            .batch(texts)
            .map_err(|e| EvalError::Encoder(e.to_string()))?;
        let device = self.model.logit_scale.val().device();
        let ids = self.model.text.trim(ids).to_tensor(&device);
        Ok(self.model.encode_text(ids))
    }

    fn identity(&self) -> Result<Option<String>> {
        identity(self).map(Some)
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        // With so much room nothing is cut, whatever a framing keeps free for its special tokens.
        let roomy = self.tokenizer.clone().with_context_length(ROOMY).ok()?;
        let len = |tokenizer: &Tokenizer, text: &str| tokenizer.encode(text).map(|ids| ids.len());
        let is_cut = |text: &&String| match (len(&roomy, text), len(&self.tokenizer, text)) {
            (Ok(all), Ok(kept)) => all > kept,
            _ => false,
        };
        Some(texts.iter().filter(is_cut).count())
    }
}

impl<B: Backend> DualEncoder<B> for Pretrained<B> {
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.model.encode_image(images)
    }

    fn scale(&self) -> Option<f32> {
        let scale = self.model.scale().into_data().convert::<f32>();
        scale.as_slice::<f32>().ok()?.first().copied()
    }
}

/// More tokens than any text has.
const ROOMY: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use clip::LoadOptions;
    use clip::tokenizer::{TokenizerConfig, TokenizerMode};
    use std::path::Path;

    #[test]
    fn a_clip_gives_its_scale_and_rows_of_any_length() {
        let device = Default::default();
        let clip = Pretrained::<Flex>::load("tiny", &LoadOptions::default(), &device).unwrap();
        // CLIP's initial value: 1 / 0.07.
        assert!((DualEncoder::<Flex>::scale(&clip).unwrap() - 1.0 / 0.07).abs() < 1e-3);
        let texts = ["a cat".to_owned(), "two ".repeat(200)];
        let norms = |rows: Tensor<Flex, 2>| {
            rows.square()
                .sum_dim(1)
                .sqrt()
                .into_data()
                .to_vec::<f32>()
                .unwrap()
        };
        let unit = norms(clip.encode_texts(&texts).unwrap());
        assert!(
            unit.iter().all(|norm| (norm - 1.0).abs() < 1e-5),
            "{unit:?}"
        );
        let free = norms(clip.text_embeddings(&texts).unwrap());
        assert!(
            free.iter().any(|norm| (norm - 1.0).abs() > 1e-2),
            "{free:?}"
        );
        assert_eq!(clip.truncated(&texts), Some(1));
    }

    /// Of eight tokens, CLIPS leaves five to the words; a cut row does not fill the context.
    #[test]
    fn cut_texts_are_counted_whatever_a_framing_keeps_free() {
        let device = Default::default();
        let mut clip = Pretrained::<Flex>::load("tiny", &LoadOptions::default(), &device).unwrap();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizer_bert");
        let config = TokenizerConfig {
            hf_tokenizer_name: Some("bert".into()),
            tokenizer_mode: Some(TokenizerMode::Clips),
            context_length: 8,
            ..TokenizerConfig::default()
        };
        clip.tokenizer = Tokenizer::from_config(&config, &folder).unwrap();
        let texts = [
            "a",
            "a a",
            "a a a a a a a a a a",
            "a a a a a a a a a a a a a a a a a a a a a",
        ];
        assert_eq!(clip.truncated(&texts.map(str::to_owned)), Some(2));
    }
}
