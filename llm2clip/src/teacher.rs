//! Where the vectors of texts come from when a model is used.

use crate::caption_encoder::{BATCH, truncated};
use crate::error::{Error, Result};
use crate::identity::identity;
use burn::prelude::*;
use burn::tensor::TensorData;
use data::store::Store;
use llm::{Encoder, LoadOptions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a model directory says that its texts are made to vectors. Paths are relative to the directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TextSide {
    /// Directory of the language model.
    pub llm: Option<PathBuf>,
    /// Identity of the language model whose vectors the adapter was trained on, where it is known.
    pub identity: Option<String>,
    /// Stores of vectors, for texts that are among their captions.
    pub stores: Vec<PathBuf>,
}

impl TextSide {
    /// The same with paths that start at `folder`.
    pub fn relative_to(mut self, folder: &Path) -> Self {
        self.llm = self.llm.map(|path| folder.join(path));
        self.stores = self
            .stores
            .into_iter()
            .map(|path| folder.join(path))
            .collect();
        self
    }
}

/// Turns texts into vectors.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one per model
pub enum Teacher<B: Backend> {
    /// Nothing: images only.
    None,
    /// The language model itself.
    Llm {
        /// It.
        encoder: Encoder<B>,
        /// Texts at a time.
        batch: usize,
    },
    /// Vectors that were stored before.
    Stores(Vec<Arc<Store>>),
}

impl<B: Backend> Teacher<B> {
    /// Loads what a model directory names: the language model if it is there, else the stores.
    ///
    /// # Errors
    ///
    /// When it cannot be loaded, gives vectors of another length than `width`, or is another model than the adapter was
    /// trained with.
    pub fn load(
        side: &TextSide,
        width: usize,
        options: &LoadOptions,
        device: &Device<B>,
    ) -> Result<Self> {
        let check = |found: usize, path: &Path| match found == width {
            true => Ok(()),
            false => Err(Error::format(
                path,
                format!(
                    "gives vectors of length {found}, but the adapter takes {width}: it was trained with another language \
                     model (4096: the releases' 8B, 2048: their 1B)"
                ),
            )),
        };
        if let Some(path) = &side.llm {
            let encoder = Encoder::load(path, None, options, device)?;
            check(encoder.config.hidden_size, path)?;
            if let Some(expected) = &side.identity {
                let found = identity(path, &encoder.options)?;
                if found != *expected {
                    return Err(Error::format(
                        path,
                        format!(
                            "another language model ({found}) than the one whose vectors the adapter was trained on \
                             ({expected}); name that one (`llm`), or remove `identity` from llm2clip.json if this is \
                             meant"
                        ),
                    ));
                }
            }
            return Ok(Self::Llm {
                encoder,
                batch: BATCH,
            });
        }
        let mut stores = Vec::new();
        for path in &side.stores {
            let store = Store::open(path)?;
            check(store.info().width, path)?;
            stores.push(Arc::new(store));
        }
        Ok(match stores.is_empty() {
            true => Self::None,
            false => Self::Stores(stores),
        })
    }

    /// One vector per text, not normalised.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, width]`, f32
    ///
    /// # Errors
    ///
    /// When there is no language model, and the text is in no store.
    pub fn vectors(&self, texts: &[String], device: &Device<B>) -> Result<Tensor<B, 2>> {
        match self {
            Self::Llm { encoder, batch } => Ok(encoder.encode(texts, *batch, device)?),
            Self::Stores(stores) => {
                let find = |text: &String| {
                    for store in stores {
                        if let Some(vector) = store.find(text)? {
                            return Ok(vector);
                        }
                    }
                    Err(Error::Options(format!(
                        "the model has no language model, and {text:?} is in none of its stores: name one (`llm`), or \
                         store the text's vector with embed_captions"
                    )))
                };
                let rows = texts.iter().map(find).collect::<Result<Vec<_>>>()?;
                let width = rows.first().map_or(0, Vec::len);
                let data = TensorData::new(rows.concat(), [rows.len(), width]);
                Ok(Tensor::from_data(data, device))
            }
            Self::None => Err(Error::Options(
                "the model has no language model to embed texts with: name the directory of the one that it was trained with (`llm`)"
                    .into(),
            )),
        }
    }

    /// How many texts lose their end; `None` where that cannot be told.
    pub fn truncated(&self, texts: &[String]) -> Option<usize> {
        let Self::Llm { encoder, .. } = self else {
            return None;
        };
        truncated(encoder, texts)
    }
}
