use super::{Pooling, Template};
use crate::error::{Error, Result};
use crate::model::Visibility;
use serde::{Deserialize, Serialize};

/// How a language model turns a text into a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderOptions {
    /// Which tokens a token sees.
    pub visibility: Visibility,
    /// What becomes of the hidden states.
    pub pooling: Pooling,
    /// What is written around a text.
    pub template: Template,
    /// Tokens of a text with all that is around it; more are cut off.
    pub max_length: usize,
    /// Where a text begins and ends among the tokens.
    pub framing: Framing,
}

/// Where a text begins and ends among the tokens, and what is lost of one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// As in LLM2Vec, which the released models were made with. Template, instruction and text are tokenized as one
    /// string in which special tokens count wherever they come from; the text's tokens are counted on the text alone,
    /// and so many of the last tokens are pooled. Consequences: a newline at the start of a text merges with the
    /// template's and moves the pooled tokens by one; a separator in a text leaves what follows it uncounted; a text
    /// that is cut loses the end of its turn, and tokens of the template are pooled in its place.
    Llm2vec,
    /// For new models. Template, instruction and text are tokenized one by one, the text without the white space around
    /// it and with special tokens as plain text; the text is cut so that the template stays whole; what is pooled are
    /// the tokens of the text and of what the template writes after it.
    Exact,
}

impl EncoderOptions {
    /// Options of new models: bidirectional, mean of the text's tokens, 512 tokens at most.
    pub fn new(template: Template) -> Self {
        Self {
            visibility: Visibility::Bidirectional,
            pooling: Pooling::Mean,
            template,
            max_length: 512,
            framing: Framing::Exact,
        }
    }

    /// Options of the models that LLM2Vec and LLM2CLIP released.
    pub fn llm2vec(template: Template) -> Self {
        Self {
            framing: Framing::Llm2vec,
            ..Self::new(template)
        }
    }

    /// Refuses values without a meaning.
    ///
    /// # Errors
    ///
    /// Names the value.
    pub fn check(&self) -> Result<()> {
        if self.max_length == 0 {
            return Err(Error::Options(
                "max_length is 0: no token of a text would be left; LLM2CLIP's is 512".into(),
            ));
        }
        Ok(())
    }
}
