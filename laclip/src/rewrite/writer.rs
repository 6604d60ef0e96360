//! Who continues prompts.

use crate::error::Result;

/// Continues texts. A trait, so that the stream can be tested without a model.
pub trait Writer {
    /// Token ids of a text, as many as [`Self::write`] would feed.
    ///
    /// # Errors
    ///
    /// If the text cannot be tokenized.
    fn encode(&self, text: &str) -> Result<Vec<u32>>;

    /// Text of token ids.
    fn decode(&self, ids: &[u32]) -> String;

    /// Tokens of a prompt and its continuation at most, where the writer knows.
    fn longest(&self) -> Option<usize> {
        None
    }

    /// One continuation for each prompt, which comes with the seed of its draws. What follows the end of the first
    /// line may be left out.
    ///
    /// # Errors
    ///
    /// If the model fails.
    fn write(&mut self, prompts: &[(String, u64)]) -> Result<Vec<Written>>;
}

/// A continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its text.
    pub text: String,
    /// New tokens.
    pub tokens: usize,
}
