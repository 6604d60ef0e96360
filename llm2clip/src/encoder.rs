//! The whole model: images and texts into one space.

use crate::checkpoint;
use crate::error::Result;
use crate::network::{Network, NetworkConfig};
use crate::teacher::{Teacher, TextSide};
use burn::prelude::*;
use clip::checkpoint::ParamPath;
use clip::preprocess::Preprocess;
use eval::{DualEncoder, EvalError, TextEncoder};
use sha2::{Digest, Sha256};
use std::path::Path;
use train::{BoxError, Stored, Trained};

/// A vision tower and a text adapter, with a language model or stored vectors in front of it.
#[derive(Clone, Debug)]
pub struct Llm2Clip<B: Backend> {
    /// The trained parts.
    pub network: Network<B>,
    /// Architecture.
    pub config: NetworkConfig,
    /// How images are prepared.
    pub preprocess: Preprocess,
    /// What its directory says about the language model.
    pub text_side: TextSide,
    /// Where vectors of texts come from.
    pub teacher: Teacher<B>,
}

impl<B: Backend> Llm2Clip<B> {
    /// Around given parts.
    pub fn new(
        network: Network<B>,
        config: NetworkConfig,
        text_side: TextSide,
        teacher: Teacher<B>,
    ) -> Self {
        Self {
            network,
            preprocess: Preprocess::new(config.preprocess.clone()),
            config,
            text_side,
            teacher,
        }
    }

    /// Writes a model directory that [`Llm2Clip::load`] reads: `llm2clip.json`, `open_clip_config.json` for the vision
    /// tower, and `model.safetensors`. The language model stays where it is.
    ///
    /// # Errors
    ///
    /// Names the file that could not be written.
    pub fn write_into(&self, directory: &Path) -> Result<()> {
        checkpoint::write(self, directory)
    }
}

impl<B: Backend> TextEncoder<B> for Llm2Clip<B> {
    fn embed_dim(&self) -> usize {
        self.config.adapter.embed_dim
    }

    fn text_embeddings(&self, texts: &[String]) -> eval::Result<Tensor<B, 2>> {
        let device = self.network.logit_scale.val().device();
        let vectors = self.teacher.vectors(texts, &device);
        let vectors = vectors.map_err(|error| EvalError::Encoder(error.to_string()))?;
        Ok(self.network.text.forward(vectors))
    }

    /// Of the vision tower, the adapter and the language model, where that is known by its identity.
    fn identity(&self) -> eval::Result<Option<String>> {
        struct Weights(ParamPath, Sha256);
        impl<B: Backend> burn::module::ModuleVisitor<B> for Weights {
            fn enter_module(&mut self, name: &str, container: &str) {
                self.0.enter(name, container);
            }
            fn exit_module(&mut self, _: &str, _: &str) {
                self.0.exit();
            }
            fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<B, D>>) {
                let data = param.val().into_data().convert::<f32>();
                self.1
                    .update(format!("\n{} {:?} ", self.0.join(), data.shape));
                self.1.update(data.as_bytes());
            }
        }
        let Some(llm) = &self.text_side.identity else {
            return Ok(None);
        };
        let mut weights = Weights(ParamPath::default(), Sha256::new());
        let parts = (
            &self.config.vision,
            &self.config.preprocess,
            &self.config.adapter,
        );
        let parts = serde_json::to_string(&parts)
            .map_err(|error| EvalError::Encoder(format!("cannot describe the model: {error}")))?;
        weights.1.update(format!("{llm} {parts}"));
        self.network.visit(&mut weights);
        let digest = weights.1.finalize();
        Ok(Some(
            digest.iter().take(8).map(|b| format!("{b:02x}")).collect(),
        ))
    }

    fn truncated(&self, texts: &[String]) -> Option<usize> {
        self.teacher.truncated(texts)
    }
}

impl<B: Backend> DualEncoder<B> for Llm2Clip<B> {
    fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    fn image_embeddings(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        self.network.visual.forward(images)
    }

    fn scale(&self) -> Option<f32> {
        let scale = self.network.scale().into_data().convert::<f32>();
        scale.as_slice::<f32>().ok()?.first().copied()
    }
}

impl<B: Backend> Trained for Llm2Clip<B> {
    fn write_into(&self, dir: &Path) -> Result<(), BoxError> {
        Ok(Llm2Clip::write_into(self, dir)?)
    }

    fn stored(&self, path: &str) -> Option<Stored> {
        Some(Stored {
            file: checkpoint::WEIGHTS.into(),
            tensor: path.into(),
        })
    }
}
