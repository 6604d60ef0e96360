//! Stage 2 as the engine sees it.

use super::prepare::ImageVectorBatch;
use crate::encoder::Llm2Clip;
use crate::network::{Network, NetworkConfig};
use crate::teacher::{Teacher, TextSide};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor, TensorData};
use clip::loss::by_rows;
use clip::nn::l2_normalize;
use train::image_text::towers::embed_images;
use train::{BoxError, Embedded, Embeddings, Losses, Pass, Task};

/// Aligns images with the vectors of their captions by CLIP's loss.
#[derive(Clone, Debug)]
pub struct Align<B: AutodiffBackend> {
    /// Architecture.
    pub config: NetworkConfig,
    /// What the model directory will say about the language model.
    pub text_side: TextSide,
    /// Turns texts of validations into vectors.
    pub teacher: Teacher<B::InnerBackend>,
    /// Dtype of the activations.
    pub compute: DType,
}

impl<B: AutodiffBackend> Task<B> for Align<B> {
    type Model = Network<B>;
    type Batch = ImageVectorBatch;
    type Trained = Llm2Clip<B::InnerBackend>;

    /// Gives `image` and `text`.
    fn embed(
        &self,
        model: &Network<B>,
        batch: &ImageVectorBatch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let (n, device) = (batch.pixels.n, pass.device().clone());
        let pixels = batch
            .pixels
            .clone()
            .to_tensor(&self.config.preprocess, &device);
        let image = embed_images(&model.visual, pixels, None, pass)?;
        let vectors = TensorData::new(batch.vectors.clone(), [n, self.config.adapter.width]);
        let vectors = Tensor::<B, 2>::from_data(vectors, (&device, DType::F32));
        let x = model.text.embed(vectors).cast(self.compute);
        let x = pass.blocks(&model.text.blocks, x, |block, x| block.forward(x));
        let text = l2_normalize(model.text.head(x));
        Ok(Embedded::default().with("image", image).with("text", text))
    }

    fn loss(
        &self,
        model: &Network<B>,
        mut embeddings: Embeddings<B>,
    ) -> Result<Losses<B>, BoxError> {
        let rows = embeddings.rows();
        let (image, text) = (embeddings.one("image")?, embeddings.one("text")?);
        Ok(by_rows::contrastive(rows, image, text, model.scale()).into())
    }

    fn by_rows(&self) -> bool {
        true
    }

    fn samples(&self, batch: &ImageVectorBatch) -> usize {
        batch.pixels.n
    }

    fn trained(&self, model: Network<B::InnerBackend>) -> Llm2Clip<B::InnerBackend> {
        let (config, side) = (self.config.clone(), self.text_side.clone());
        Llm2Clip::new(model, config, side, self.teacher.clone())
    }
}
