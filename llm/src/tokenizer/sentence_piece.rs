//! SentencePiece's byte-pair models (Llama 1 and 2) as a tokenizer of the `tokenizers` crate.
//!
//! Field numbers are those of `sentencepiece_model.proto`. SentencePiece merges the neighbours whose joint piece has
//! the highest score; the same follows from a list of merges in the order of those scores.

use super::wire::{Fields, Value};
use std::collections::HashMap;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as DecoderSequence;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper};

/// Stands for a space inside pieces.
const SPACE: &str = "\u{2581}";

/// Longest piece in bytes. Merges are sought at every place of a piece, which takes the square of its length.
const MAX_PIECE: usize = 1024;

/// Kinds of pieces.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// What a `tokenizer.model` says.
pub struct Model {
    pieces: Vec<Piece>,
    model_type: u64,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    charsmap: bool,
    dummy_prefix: bool,
    remove_extra_whitespaces: bool,
}

impl Model {
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes
            .iter()
            .take(200)
            .all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace())
        {
            return Err(
                "a text file, not a SentencePiece model; Llama 3 needs the tokenizer.json of its \
                 Hugging Face release beside it"
                    .into(),
            );
        }
        // Defaults are the proto's.
        let mut model = Self {
            pieces: Vec::new(),
            model_type: 1,
            bos: Some(1),
            eos: Some(2),
            charsmap: false,
            dummy_prefix: true,
            remove_extra_whitespaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Value::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Value::Number(kind)) => model.model_type = kind,
                            // Negative numbers, which mean "none", do not fit.
                            (41, Value::Number(id)) => model.bos = id.try_into().ok(),
                            (42, Value::Number(id)) => model.eos = id.try_into().ok(),
                            _ => {}
                        }
                    }
                }
                (3, Value::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (2, Value::Bytes(map)) => model.charsmap = !map.is_empty(),
                            (3, Value::Number(flag)) => model.dummy_prefix = flag != 0,
                            (4, Value::Number(flag)) => model.remove_extra_whitespaces = flag != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        model.check()?;
        Ok(model)
    }

    fn check(&self) -> Result<(), String> {
        if self.pieces.is_empty() {
            return Err("not a SentencePiece model: it has no pieces".into());
        }
        if self.model_type != 2 {
            return Err("not a byte-pair model; only those of the Llama family are read".into());
        }
        if self.charsmap || self.remove_extra_whitespaces {
            return Err("the model normalises text, which those of the Llama family do not".into());
        }
        Ok(())
    }

    pub fn into_tokenizer(self) -> Result<tokenizers::Tokenizer, String> {
        let ids: HashMap<&str, u32> = self
            .pieces
            .iter()
            .zip(0..)
            .map(|(piece, id)| (piece.text.as_str(), id))
            .collect();
        let mut bpe = BPE::builder()
            .vocab_and_merges(
                ids.iter()
                    .map(|(piece, id)| (piece.to_string(), *id))
                    .collect::<Vocab>(),
                self.merges(&ids),
            )
            .fuse_unk(true)
            .byte_fallback(true);
        if let Some(unknown) = self.pieces.iter().find(|piece| piece.kind == UNKNOWN) {
            bpe = bpe.unk_token(unknown.text.clone());
        }
        let bpe = bpe.build().map_err(|error| error.to_string())?;
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let replace =
            |from: &str, to: &str| Replace::new(from, to).map_err(|error| error.to_string());
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        let mut decoders: Vec<DecoderWrapper> = vec![
            replace(SPACE, " ")?.into(),
            ByteFallback::new().into(),
            Fuse::new().into(),
        ];
        if self.dummy_prefix {
            normalizers.push(Prepend::new(SPACE.into()).into());
            decoders.push(Strip::new(' ', 1, 0).into());
        }
        normalizers.push(replace(" ", SPACE)?.into());
        tokenizer.with_normalizer(Some(Sequence::new(normalizers)));
        tokenizer.with_decoder(Some(DecoderSequence::new(decoders)));
        let added = |kinds: &[u64], special: bool| -> Vec<AddedToken> {
            let chosen = self
                .pieces
                .iter()
                .filter(|piece| kinds.contains(&piece.kind));
            chosen
                .map(|piece| AddedToken::from(piece.text.clone(), special).normalized(false))
                .collect()
        };
        tokenizer.add_special_tokens(&added(&[UNKNOWN, CONTROL], true));
        tokenizer.add_tokens(&added(&[USER_DEFINED], false));
        Ok(tokenizer)
    }

    /// Every way to put a piece together of two others; higher scores first, then longer halves first.
    fn merges(&self, ids: &HashMap<&str, u32>) -> Vec<(String, String)> {
        let mut merges = Vec::new();
        for piece in self.pieces.iter().filter(|piece| piece.merges()) {
            for (cut, _) in piece.text.char_indices().skip(1) {
                let halves = piece.text.split_at(cut);
                let known = |half: &str| {
                    ids.get(half)
                        .is_some_and(|id| self.pieces[*id as usize].merges())
                };
                if known(halves.0) && known(halves.1) {
                    let lengths = (halves.0.chars().count(), halves.1.chars().count());
                    merges.push((piece.score, lengths, halves));
                }
            }
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)));
        let owned = |(_, _, (left, right)): (_, _, (&str, &str))| (left.into(), right.into());
        merges.into_iter().map(owned).collect()
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut piece = Self {
            text: String::new(),
            score: 0.0,
            kind: 1,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Value::Bytes(text)) if text.len() > MAX_PIECE => {
                    return Err(format!(
                        "a piece of {} bytes; those of a vocabulary have at most {MAX_PIECE}",
                        text.len()
                    ));
                }
                (1, Value::Bytes(text)) => {
                    piece.text = String::from_utf8(text.to_vec())
                        .map_err(|_| "a piece is not UTF-8".to_string())?;
                }
                (2, Value::Float(score)) => piece.score = score,
                (3, Value::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Ok(piece)
    }

    /// Whether it is a plain piece of text, made by merging.
    fn merges(&self) -> bool {
        self.kind == 1
    }
}
