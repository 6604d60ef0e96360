//! Train, evaluate and extend CLIP models in Rust, on any burn backend.
//!
//! This crate is the front door: it re-exports the parts and picks a backend at run time ([`backend`]).
//!
//! * [`clip`]: the dual encoder, its checkpoints, preprocessing and tokenizers
//! * [`data`]: images and captions on disk, and the built-in captioned world
//! * [`train`]: the training engine
//! * [`dist`]: what processes that train one model tell each other
//! * [`llm`]: a Llama decoder that generates text
//! * [`clips`]: partial synthetic captions and a captioner (CLIPS)
//! * [`laclip`]: rewriting of captions, and training on them (LaCLIP)
//! * [`llm2clip`]: a language model as the text teacher (LLM2CLIP)
//! * [`methods`]: the training methods by the name that a recipe gives
//! * [`models`]: the one door through which the commands load models of any kind
//! * [`eval`]: zero-shot classification, retrieval and search
//!
//! ```no_run
//! use burn::backend::Flex;
//! use clip_burn::clip::{LoadOptions, Pretrained};
//!
//! # fn main() -> anyhow::Result<()> {
//! let device = Default::default();
//! let clip = Pretrained::<Flex>::load("path/to/model", &LoadOptions::default(), &device)?;
//! let (pixels, read) = clip.preprocess.load_batch(&["dog.jpg"]);
//! read.into_iter().collect::<Result<Vec<_>, _>>()?;
//! let image = clip.model.encode_image(pixels.to_tensor(clip.preprocess.config(), &device));
//! let text = clip.model.encode_text(clip.tokenizer.batch(&["a photo of a dog"])?.to_tensor(&device));
//! # Ok(())
//! # }
//! ```

#![recursion_limit = "256"] // wgpu's types are deep

pub mod backend;
pub mod cli;
pub mod memory;
pub mod methods;
pub mod models;
#[cfg(feature = "mpi")]
pub mod mpi;
#[cfg(all(feature = "nccl", not(feature = "fusion")))]
pub mod nccl;

pub use clip;
pub use clips;
pub use data;
pub use dist;
pub use eval;
pub use laclip;
pub use llm;
pub use llm2clip;
pub use train;

/// Allocator of the binaries; many short-lived tensors make the system's a bottleneck.
pub use mimalloc::MiMalloc;

#[cfg(doctest)]
#[doc = include_str!("../docs/write-a-method.md")]
pub struct WriteAMethod;

#[cfg(doctest)]
#[doc = include_str!("../docs/evaluate.md")]
pub struct Evaluate;

#[cfg(doctest)]
#[doc = include_str!("../docs/load-a-model.md")]
pub struct LoadAModel;

#[cfg(doctest)]
#[doc = include_str!("../docs/language-models.md")]
pub struct LanguageModels;

#[cfg(doctest)]
#[doc = include_str!("../docs/rewrite-captions.md")]
pub struct RewriteCaptions;

#[cfg(doctest)]
#[doc = include_str!("../docs/backends.md")]
pub struct Backends;

#[cfg(doctest)]
#[doc = include_str!("../docs/llm2clip.md")]
pub struct Llm2Clip;

#[cfg(doctest)]
#[doc = include_str!("../docs/scenes.md")]
pub struct ScenesGuide;

#[cfg(doctest)]
#[doc = include_str!("../docs/search.md")]
pub struct Search;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
