//! A tokenizer of one's own: byte-level pairs with the special tokens of Llama 3.

use super::Tokenizer;
use crate::error::{Error, Result};
use std::path::Path;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// What Llama 3's tokenizer merges nothing across (its `tokenizer.json`).
const WORDS: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// Special tokens that a chat template of Llama 3 needs; their ids are 0, 1, and so on.
pub const SPECIAL: [&str; 5] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
];

/// Ids that no vocabulary can do without: the special tokens and one for each byte.
const LEAST: usize = SPECIAL.len() + 256;

impl Tokenizer {
    /// Learns merges from lines of text until there are `vocab_size` tokens, or no pair comes twice. Any text has ids,
    /// whatever the lines were. The same lines give the same tokenizer.
    ///
    /// # Errors
    ///
    /// If the vocabulary has no room for special tokens and bytes, or there is no text.
    pub fn train<T: AsRef<str> + Sync>(lines: &[T], vocab_size: usize) -> Result<Self> {
        if vocab_size < LEAST {
            return Err(Error::Options(format!(
                "a vocabulary of {vocab_size} has no room for {} special tokens and 256 bytes: give at least {LEAST}",
                SPECIAL.len()
            )));
        }
        if lines.iter().all(|line| line.as_ref().trim().is_empty()) {
            return Err(Error::Options(
                "no text to learn a tokenizer from: all lines are empty".into(),
            ));
        }
        let wrong = |error: tokenizers::Error| Error::Options(format!("tokenizer: {error}"));
        let bpe = BPE::builder().ignore_merges(true).build().map_err(wrong)?;
        let split = Split::new(
            SplitPattern::Regex(WORDS.into()),
            SplitDelimiterBehavior::Isolated,
            false,
        );
        let bytes = ByteLevel::new(false, true, false);
        let mut inner = tokenizers::Tokenizer::new(bpe);
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            split.map_err(wrong)?.into(),
            bytes.into(),
        ])));
        inner.with_decoder(Some(ByteLevel::default()));
        let special = |name: &str| AddedToken::from(name, true).normalized(false);
        let trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(SPECIAL.map(special).to_vec())
            .build();
        let mut trainer = TrainerWrapper::from(trainer);
        let lines = lines.iter().map(AsRef::as_ref);
        inner.train(&mut trainer, lines).map_err(wrong)?;
        let [bos, eos] = [0, 1];
        Ok(Self::new(
            inner,
            Path::new("tokenizer"),
            Some(bos),
            vec![eos],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<String> {
        let colors = ["red", "blue", "small", "green"];
        let things = ["dog", "cat", "house", "garden"];
        let line = |i: usize| format!("a photo of a {} {}", colors[i % 4], things[i / 4 % 4]);
        (0..200).map(line).collect()
    }

    #[test]
    fn a_trained_tokenizer_has_ids_for_any_text_and_few_for_known_words() {
        let tokenizer = Tokenizer::train(&lines(), 400).unwrap();
        for text in [
            "a photo of a red dog",
            "née 中文 \u{1f600}\n\n\ttabs",
            "<|eot_id|>",
        ] {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(ids[0], 0);
            assert_eq!(tokenizer.decode(&ids), text);
        }
        assert_eq!(tokenizer.ids("a photo of a red dog").unwrap().len(), 6);
        assert_eq!(tokenizer.special("<|eot_id|>"), Some(4));
        assert_eq!(tokenizer.special("dog"), None);
        assert_eq!(tokenizer.parse("<|eot_id|>").unwrap(), [4]);
        assert!(!tokenizer.ids("<|eot_id|>").unwrap().contains(&4));
        assert_eq!(tokenizer.special_ids(), [0, 1, 2, 3, 4]);
        assert!(tokenizer.vocab_size() <= 400);
    }

    #[test]
    fn the_same_lines_give_the_same_tokenizer_and_its_files_give_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(&lines(), 300).unwrap();
        let json = |tokenizer: &Tokenizer| tokenizer.inner.to_string(false).unwrap();
        assert_eq!(
            json(&Tokenizer::train(&lines(), 300).unwrap()),
            json(&tokenizer)
        );
        tokenizer.save(folder.path()).unwrap();
        let again = Tokenizer::from_directory(folder.path(), None).unwrap();
        assert_eq!((again.bos(), again.eos()), (Some(0), &[1][..]));
        for line in lines() {
            assert_eq!(
                again.encode(&line).unwrap(),
                tokenizer.encode(&line).unwrap()
            );
        }
    }

    #[test]
    fn too_small_a_vocabulary_and_no_text_are_refused() {
        let refused = |lines: &[&str], size| {
            let tokenizer = Tokenizer::train(lines, size);
            tokenizer.map(|_| ()).unwrap_err().to_string()
        };
        assert!(refused(&["text"], 260).contains("261"));
        assert!(refused(&["", "  "], 300).contains("no text"));
    }
}
