//! What a `tokenizer.json` says of its lengths, looked at before the `tokenizers` crate allocates them.

mod added;
mod charsmap;
mod growth;

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The parts of the file that are looked at.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    added_tokens: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    model: Model,
}

#[derive(Default, Deserialize)]
struct Model {
    #[serde(default)]
    max_input_chars_per_word: Value,
    #[serde(default)]
    continuing_subword_prefix: Value,
    #[serde(default)]
    end_of_word_suffix: Value,
    #[serde(default)]
    vocab: Pieces,
}

/// Bytes of the longest piece where a vocabulary is a list, as Unigram's is.
#[derive(Default)]
struct Pieces(usize);

impl<'de> Deserialize<'de> for Pieces {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Longest;
        impl<'de> Visitor<'de> for Longest {
            type Value = Pieces;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pieces, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Pieces(0))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pieces, A::Error> {
                let mut longest = 0;
                while let Some(piece) = list.next_element::<Value>()? {
                    longest = longest.max(piece[0].as_str().map_or(0, str::len));
                }
                Ok(Pieces(longest))
            }
        }
        json.deserialize_any(Longest)
    }
}

/// Refuses a `tokenizer.json` that would take any memory or time, by some number or length in it, or that means two things:
///
/// - a `precompiled_charsmap` that says that it is longer than it is: what reads it allocates what it says, up to 32 GiB;
/// - hundreds of steps before or after the model, each of which walks over all parts of a text;
/// - patterns of tens of kilobytes, which are looked for at every letter;
/// - replacements, or other parts, that make a text a thousand times as long, one after the other;
/// - a template that names the text twice, or has many special tokens: every part beyond the context would be joined with
///   every other, and with all of them;
/// - added tokens of kilobytes, as they are or when they are normalized: looking for them is prepared in a time that goes with
///   the square of their length;
/// - an added token that is listed twice, and not alike: both would be looked for, and one would be written;
/// - kilobytes before or behind every part of a word;
/// - pieces of kilobytes in Unigram, which are nodes inside nodes, and would overflow the stack when they are dropped;
/// - words without an end in WordPiece, which tries every part of a word.
///
/// # Errors
///
/// A sentence about it, also of a file that is no JSON object or has a part twice.
pub fn check_lengths(json: &str) -> Result<(), String> {
    let head: Head = serde_json::from_str(json).map_err(|error| error.to_string())?;
    charsmap::check(&head.normalizer)?;
    growth::check("normalizers", &head.normalizer)?;
    growth::check("pre-tokenizers", &head.pre_tokenizer)?;
    growth::check("decoders", &head.decoder)?;
    added::check_special(&head.post_processor)?;
    added::check_tokens(&head.added_tokens, &head.normalizer)?;
    check_affix(
        "continuing_subword_prefix",
        &head.model.continuing_subword_prefix,
    )?;
    check_affix("end_of_word_suffix", &head.model.end_of_word_suffix)?;
    check_pieces(&head.model.vocab)?;
    check_words(&head.model.max_input_chars_per_word)
}

/// Refuses to write a vocabulary with an id beyond any: whoever writes it lists every id below that has no token. And one in
/// which two tokens have the same id: one of them would be lost.
///
/// # Errors
///
/// A sentence about it.
pub fn check_ids(tokenizer: &tokenizers::Tokenizer) -> Result<(), String> {
    let mut tokens: Vec<(String, u32)> = tokenizer.get_vocab(true).into_iter().collect();
    tokens.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    if let Some((_, id)) = tokens.last().filter(|(_, id)| *id > MAX_ID) {
        return Err(format!("the id {id} is beyond any vocabulary"));
    }
    match tokens.windows(2).find(|two| two[0].1 == two[1].1) {
        Some(two) => {
            let ((one, id), (other, _)) = (&two[0], &two[1]);
            Err(format!(
                "`{one:.40}` and `{other:.40}` have the same id {id}"
            ))
        }
        None => Ok(()),
    }
}

/// Beyond any vocabulary.
const MAX_ID: u32 = 1 << 24;

/// Bytes of an added token, and of a piece of Unigram; the longest that are known are blanks and line breaks, some thirty of them.
const MAX_TOKEN: usize = 256;
/// Letters of a word; BERT's is 100.
const MAX_WORD: u64 = 256;
/// Bytes before or behind the parts of a word; CLIP's `</w>` has four.
const MAX_AFFIX: usize = 32;

fn check_affix(name: &str, affix: &Value) -> Result<(), String> {
    match affix.as_str().map_or(0, str::len) {
        length if length > MAX_AFFIX => Err(format!(
            "`{name}` has {length} bytes, more than {MAX_AFFIX}"
        )),
        _ => Ok(()),
    }
}

fn check_pieces(pieces: &Pieces) -> Result<(), String> {
    match pieces.0 > MAX_TOKEN {
        true => Err(format!(
            "a piece of its vocabulary has {} bytes, more than {MAX_TOKEN}",
            pieces.0
        )),
        false => Ok(()),
    }
}

fn check_words(most: &Value) -> Result<(), String> {
    match most.as_u64().is_some_and(|most| most > MAX_WORD) {
        true => Err(format!(
            "`max_input_chars_per_word` is {most}, more than {MAX_WORD}"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests;
