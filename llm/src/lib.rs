//! A Llama-family decoder: its checkpoints, its tokenizers, text generation, and vectors of texts.
//!
//! * [`Pretrained`]: a model directory (Hugging Face's or Meta's) with its tokenizer, read and written
//! * [`Llama`]: the network, `embed → layers → norm → head`, whose parts can be called one by one
//! * [`generate`]: continuations of ragged batches with a key-value cache
//! * [`sampling`]: greedy choice, temperature, top-p
//! * [`Encoder`]: texts → vectors, bidirectional or causal, with templates and poolings; the released models of LLM2CLIP
//! * [`LoraConfig`]: small trained changes of frozen weights; PEFT's adapters, read and written
//! * [`lm`]: losses of language modelling, masked next-token prediction among them
//!
//! Reading of weight files, layers of general use and [`clip::Precision`] come from [`clip`].
//!
//! An encoder with LoRA, block by block, as a training engine runs it:
//!
//! ```no_run
//! use burn::backend::Autodiff;
//! use burn_flex::Flex;
//! use llm::{Dropout, Encoder, LoadOptions, LoraConfig};
//!
//! # fn main() -> Result<(), llm::Error> {
//! let device = Default::default();
//! let directory = "models/LLM2CLIP-Llama-3.2-1B-Instruct-CC-Finetuned";
//! let load = LoadOptions::default();
//! let encoder = Encoder::<Autodiff<Flex>>::load(directory.as_ref(), None, &load, &device)?;
//! let model = encoder.model.with_lora(&LoraConfig::llm2clip(), 0, &device)?;
//!
//! let texts = [("", "a red dog"), ("Given a sentence, retrieve a detailed one; ", "two cats")];
//! let rows = encoder.options.rows(&encoder.tokenizer, texts)?;
//! let dropout = Dropout::of_rows(7, 0, rows.len()); // the seed of the step, and where in its batch these rows are
//! let context = encoder.options.context(&model, &rows, Some(dropout), &device);
//! let mut x = model.embed(rows.to_tensor(&device));
//! for layer in &model.layers {
//!     x = layer.forward(x, &context, None);
//! }
//! let vectors = encoder.options.pooling.pool(model.norm.forward(x), &rows); // [rows, width], not normalised
//! # Ok(())
//! # }
//! ```

mod config;
mod encoder;
mod error;
mod generate;
mod json;
mod load;
mod lora;
mod model;
mod nn;
mod save;

pub mod lm;
pub mod sampling;
pub mod tokenizer;

pub use config::{LlamaConfig, RopeScaling};
pub use encoder::{Encoder, EncoderOptions, Framing, Pooling, SEPARATOR, Template, TextRows};
pub use error::{Error, Result};
pub use generate::{Completion, End, GenerateOptions, Generated, Prompt, generate};
pub use load::{Limits, LoadOptions, Pretrained, Wrapped, adapter_base};
pub use lora::LoraConfig;
pub use model::{Decoder, Llama, Visibility};
pub use nn::{
    Attention, Cache, Context, Dropout, Layer, LayerCache, Lora, Mlp, Projection, RmsNorm, Rope,
    Rotation,
};
pub use sampling::Sampling;
pub use save::SaveOptions;
pub use tokenizer::Tokenizer;
