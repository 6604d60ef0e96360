//! A dual encoder (CLIP) and all that travels with its checkpoint: towers, losses, preprocessing, tokenizers.

pub mod preprocess;
pub mod tokenizer;
