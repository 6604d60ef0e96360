use super::Template;
use crate::error::{Error, Result};
use crate::model::Visibility;
use serde::{Deserialize, Serialize};

/// How hidden states become one vector. A text's tokens are those that [`TextRows`](super::TextRows) counts as its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean over the text's tokens.
    Mean,
    /// The same with weights that rise from 1 for the first token by 1 for each.
    WeightedMean,
    /// The last token, whatever it is.
    #[serde(alias = "last_token")]
    Last,
    /// The last token, which the template makes the one that ends a text; LLM2Vec gives this a name of its own.
    #[serde(alias = "eos_token")]
    Eos,
    /// The first token of the sequence.
    #[serde(alias = "bos_token")]
    Bos,
}

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
