use super::template::strip;
use super::{EncoderOptions, Framing, SEPARATOR};
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use burn::prelude::*;
use burn::tensor::TensorData;

/// Token ids of texts, one row each, padded on the left to the longest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRows {
    /// Row by row, `len · seq` ids; padding is 0 and seen by nobody.
    pub ids: Vec<u32>,
    /// Length of the longest row.
    pub seq: usize,
    /// Tokens of each row without padding.
    pub lengths: Vec<usize>,
    /// How many of each row's last tokens are the text's own.
    pub own: Vec<usize>,
    /// Which texts were too long, and lost their end.
    pub truncated: Vec<bool>,
}

/// The tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub ids: Vec<u32>,
    pub own: usize,
    pub truncated: bool,
}

impl TextRows {
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The ids of a row without its padding.
    pub fn row(&self, row: usize) -> &[u32] {
        let end = (row + 1) * self.seq;
        &self.ids[end - self.lengths[row]..end]
    }

    /// Refuses ids that a model does not have.
    ///
    /// # Errors
    ///
    /// Names the id.
    pub fn check(&self, vocab_size: usize) -> Result<()> {
        match self.ids.iter().max() {
            Some(id) if *id as usize >= vocab_size => Err(Error::Options(format!(
                "token id {id} is beyond the model's vocabulary of {vocab_size}: \
                 the tokenizer belongs to another model"
            ))),
            _ => Ok(()),
        }
    }

    /// # Shapes
    ///
    /// - output: `[len, seq]`
    pub fn to_tensor<B: Backend>(&self, device: &Device<B>) -> Tensor<B, 2, Int> {
        let ids: Vec<i32> = self.ids.iter().map(|id| *id as i32).collect();
        Tensor::from_data(TensorData::new(ids, [self.len(), self.seq]), device)
    }

    pub(super) fn pad(rows: &[Row]) -> Self {
        let seq = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let padded = |row: &Row| {
            let padding = std::iter::repeat_n(0, seq - row.ids.len());
            padding.chain(row.ids.clone())
        };
        Self {
            ids: rows.iter().flat_map(padded).collect(),
            seq,
            lengths: rows.iter().map(|row| row.ids.len()).collect(),
            own: rows.iter().map(|row| row.own).collect(),
            truncated: rows.iter().map(|row| row.truncated).collect(),
        }
    }
}

impl Row {
    /// The tokens of a text after an instruction, which may be empty.
    pub fn new(
        tokenizer: &Tokenizer,
        options: &EncoderOptions,
        instruction: &str,
        text: &str,
    ) -> Result<Self> {
        let row = match options.framing {
            Framing::Llm2vec => Self::as_llm2vec(tokenizer, options, instruction, text)?,
            Framing::Exact => Self::exact(tokenizer, options, instruction, text)?,
        };
        if row.own == 0 {
            return Err(Error::Options(format!(
                "a text without tokens ({text:?}) has no vector: leave it out, or use a template that ends it"
            )));
        }
        Ok(row)
    }

    fn as_llm2vec(
        tokenizer: &Tokenizer,
        options: &EncoderOptions,
        instruction: &str,
        text: &str,
    ) -> Result<Self> {
        let template = &options.template;
        let mut whole = format!("{instruction}{SEPARATOR}{text}");
        if !template.is_none() {
            whole = format!("{}{}{}", template.before, strip(&whole), template.after);
        }
        let parts: Vec<&str> = whole.split(SEPARATOR).collect();
        let mut ids: Vec<u32> = tokenizer.bos().into_iter().collect();
        ids.extend(tokenizer.parse(&parts.concat())?);
        let truncated = ids.len() > options.max_length;
        ids.truncate(options.max_length);
        // The text brings its separator, so there is a second part.
        let own = tokenizer.parse(parts[1])?.len();
        let own = own.min(options.max_length).min(ids.len());
        Ok(Self {
            ids,
            own,
            truncated,
        })
    }

    fn exact(
        tokenizer: &Tokenizer,
        options: &EncoderOptions,
        instruction: &str,
        text: &str,
    ) -> Result<Self> {
        let template = &options.template;
        let mut ids: Vec<u32> = tokenizer.bos().into_iter().collect();
        ids.extend(tokenizer.parse(&template.before)?);
        ids.extend(tokenizer.ids(instruction)?);
        let mut text = tokenizer.ids(strip(text))?;
        let after = tokenizer.parse(&template.after)?;
        let room = options.max_length.checked_sub(ids.len() + after.len() + 1);
        let Some(room) = room.map(|room| room + 1) else {
            return Err(Error::Options(format!(
                "max_length {} leaves no token for the text: template and instruction take {}",
                options.max_length,
                ids.len() + after.len()
            )));
        };
        let truncated = text.len() > room;
        text.truncate(room);
        let own = text.len() + after.len();
        ids.extend(text);
        ids.extend(after);
        Ok(Self {
            ids,
            own,
            truncated,
        })
    }
}
