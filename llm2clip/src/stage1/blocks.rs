//! Packed tokens of a corpus.

use data::{DataError, Keyed, Source};
use llm::Tokenizer;
use llm::lm::pack;
use rayon::prelude::*;

/// Texts that are joined before they are cut, in LLM2Vec.
const GROUP: usize = 1000;

/// Packed tokens of a corpus, all in memory.
#[derive(Debug)]
pub struct Blocks {
    name: String,
    blocks: Vec<Vec<u32>>,
}

/// One row of packed tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Name in messages.
    pub key: String,
    /// Token ids.
    pub ids: Vec<u32>,
}

impl Keyed for Block {
    fn key(&self) -> &str {
        &self.key
    }
}

impl Blocks {
    /// Tokenizes texts, each after the token that begins one, joins 1000 at a time and cuts them into rows.
    ///
    /// # Errors
    ///
    /// When a text cannot be tokenized, a token is beyond `vocab_size`, or there are not enough for one row.
    pub fn new(
        name: &str,
        texts: &[String],
        tokenizer: &Tokenizer,
        vocab_size: usize,
        block: usize,
    ) -> Result<Self, crate::Error> {
        if block < 2 {
            let what = format!(
                "method.block is {block}: a row needs a token to predict from, and one to predict"
            );
            return Err(crate::Error::Options(what));
        }
        let ids = texts.par_iter().map(|text| tokenizer.encode(text));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        if let Some(id) = ids.iter().flatten().find(|id| **id as usize >= vocab_size) {
            return Err(crate::Error::Options(format!(
                "token id {id} is beyond the model's vocabulary of {vocab_size}: the tokenizer belongs to another model"
            )));
        }
        let blocks = pack(&ids, block, GROUP);
        if blocks.is_empty() {
            let tokens: usize = ids.iter().map(Vec::len).sum();
            return Err(crate::Error::Options(format!(
                "{name}: {tokens} tokens do not fill one row of {block}; make method.block smaller"
            )));
        }
        Ok(Self {
            name: name.into(),
            blocks,
        })
    }
}

impl Source<Block> for Blocks {
    fn len(&self) -> usize {
        self.blocks.len()
    }

    fn get(&self, index: usize) -> Result<Block, DataError> {
        let ids = self
            .blocks
            .get(index)
            .ok_or_else(|| DataError::OutOfRange {
                name: self.name.clone(),
                index,
                len: self.blocks.len(),
            })?;
        Ok(Block {
            key: format!("row {index} of {}", self.name),
            ids: ids.clone(),
        })
    }

    fn name(&self) -> String {
        format!("{} rows of {}", self.blocks.len(), self.name)
    }
}
