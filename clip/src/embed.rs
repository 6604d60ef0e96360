//! Files and texts → embeddings, in one call.

use crate::checkpoint::Pretrained;
use crate::error::Result;
use crate::nn::l2_normalize;
use burn::prelude::*;
use std::path::Path;

/// Images or texts that go through the towers at a time.
const BATCH: usize = 32;

impl<B: Backend> Pretrained<B> {
    /// Embeddings of image files, in unit rows and in the order of the paths.
    ///
    /// # Shapes
    ///
    /// - output: `[paths, embed_dim]`
    ///
    /// # Errors
    ///
    /// Names the first file that is no readable image; [`load_batch`](crate::preprocess::Preprocess::load_batch) does
    /// without such files.
    pub fn embed_images<P: AsRef<Path> + Sync>(&self, paths: &[P]) -> Result<Tensor<B, 2>> {
        let embed = |paths: &[P]| {
            let (pixels, read) = self.preprocess.load_batch(paths);
            read.into_iter().collect::<std::result::Result<(), _>>()?;
            let pixels = pixels.to_tensor(self.preprocess.config(), &self.device());
            Ok(self.model.encode_image(pixels))
        };
        self.in_batches(paths, embed)
    }

    /// Embeddings of texts, in unit rows and in the order of the texts. What does not fit the context is cut;
    /// [`is_truncated`](crate::tokenizer::Tokenizer::is_truncated) tells.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, embed_dim]`
    ///
    /// # Errors
    ///
    /// If the tokenizer gives a text an id that the model has no embedding for.
    pub fn embed_texts<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Tensor<B, 2>> {
        let embed = |texts: &[S]| {
            let ids = self.model.text.trim(self.tokenizer.batch(texts)?);
            Ok(self.model.encode_text(ids.to_tensor(&self.device())))
        };
        self.in_batches(texts, embed)
    }

    /// Where the model computes.
    pub fn device(&self) -> Device<B> {
        self.model.logit_scale.device()
    }

    fn in_batches<T>(
        &self,
        items: &[T],
        embed: impl Fn(&[T]) -> Result<Tensor<B, 2>>,
    ) -> Result<Tensor<B, 2>> {
        let rows = items
            .chunks(BATCH)
            .map(|items| embed(items).map(l2_normalize));
        let rows: Vec<_> = rows.collect::<Result<_>>()?;
        Ok(match rows.is_empty() {
            true => Tensor::zeros([0, self.config.embed_dim], &self.device()),
            false => Tensor::cat(rows, 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoadOptions, ModelConfig};
    use burn_flex::Flex;

    #[test]
    fn files_and_texts_become_unit_rows_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..BATCH + 2)
            .map(|i| dir.path().join(format!("{i}.png")))
            .collect();
        for (i, path) in paths.iter().enumerate() {
            let colour = image::Rgb([i as u8 * 7, 255 - i as u8 * 7, 90]);
            image::RgbImage::from_pixel(20, 30, colour)
                .save(path)
                .unwrap();
        }
        let config = ModelConfig::preset("tiny").unwrap();
        let device = Default::default();
        let clip = Pretrained::<Flex>::random(config, &LoadOptions::default(), &device).unwrap();
        let all = clip.embed_images(&paths).unwrap();
        let dim = clip.config.embed_dim;
        assert_eq!(all.dims(), [BATCH + 2, dim]);
        let last = clip.embed_images(&paths[BATCH + 1..]).unwrap();
        let gap = (all.clone().narrow(0, BATCH + 1, 1) - last).abs().max();
        assert!(gap.into_scalar() < 1e-6);
        let length = all.square().sum_dim(1).sub_scalar(1.0).abs().max();
        assert!(length.into_scalar() < 1e-5);
        assert_eq!(
            clip.embed_texts(&["a cat", "a dog"]).unwrap().dims(),
            [2, dim]
        );
        assert_eq!(clip.embed_texts::<&str>(&[]).unwrap().dims(), [0, dim]);
        let error = clip.embed_images(&[dir.path().join("none.png")]);
        assert!(error.unwrap_err().to_string().contains("none.png"));
    }
}
