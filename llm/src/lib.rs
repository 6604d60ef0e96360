//! A Llama-family decoder: its checkpoints, its tokenizers, and text generation.
//!
//! * [`Pretrained`]: a model directory (Hugging Face's or Meta's) with its tokenizer
//! * [`Llama`]: the network, `embed → layers → norm → head`, whose parts can be called one by one
//! * [`generate`]: continuations of ragged batches with a key-value cache
//! * [`sampling`]: greedy choice, temperature, top-p
//!
//! Reading of weight files, layers of general use and [`clip::Precision`] come from [`clip`].

mod config;
mod encoder;
mod error;
mod generate;
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
pub use load::{Limits, LoadOptions, Pretrained, Wrapped};
pub use lora::LoraConfig;
pub use model::{Decoder, Llama, Visibility};
pub use nn::{
    Attention, Cache, Context, Dropout, Layer, LayerCache, Lora, Mlp, Projection, RmsNorm, Rope,
    Rotation,
};
pub use sampling::Sampling;
pub use save::SaveOptions;
pub use tokenizer::Tokenizer;
