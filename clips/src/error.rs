/// What can go wrong between a model directory and a caption.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model or one of its files.
    #[error(transparent)]
    Model(#[from] clip::Error),
    /// How tokens are drawn.
    #[error(transparent)]
    Sampling(#[from] llm::Error),
    /// Settings that cannot be built or do not go together.
    #[error("{0}")]
    Config(String),
    /// A model that only embeds.
    #[error(
        "the model has no captioner (captioner.json and captioner.safetensors in its directory); the released CLIPS models come \
         without: train one with [method.captioner]"
    )]
    NoCaptioner,
    /// A model that computes nonsense.
    #[error(
        "the captioner's logits are not finite: its weights are damaged, or too large for bf16"
    )]
    NotFinite,
}

impl From<clip::tokenizer::TokenizerError> for Error {
    fn from(error: clip::tokenizer::TokenizerError) -> Self {
        Self::Model(error.into())
    }
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
