//! CLIP's byte-pair encoding (Radford et al., 2021, section 2.4; open_clip's `SimpleTokenizer`).
//!
//! Ids: 256 bytes, the same 256 as the end of a word, 48,894 merges in the order in which they were
//! learned, and the two special tokens. A merge's id is thus also its rank.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{BufRead, BufReader};
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::alphabet::{byte_id, byte_order, symbol, symbols};
use super::split::{END_OF_TEXT, START_OF_TEXT, split};

/// Id of [`START_OF_TEXT`].
pub const START_OF_TEXT_ID: i32 = 49_406;
/// Id of [`END_OF_TEXT`]; the largest id, by which `argmax` pooling finds it.
pub const END_OF_TEXT_ID: i32 = 49_407;

const MERGES: usize = 48_894;
const FIRST_MERGE: usize = 512;
/// Suffix of the symbols that end a word, in the vocabulary file and its descendants.
pub(super) const END_OF_WORD: &str = "</w>";

/// The vocabulary; there is one, shared by all tokenizers. What users write is looked up in its maps and never put into them, so
/// their hashes need no secret.
pub(super) struct Bpe {
    /// Two neighbouring ids → the id they merge into.
    merges: FxHashMap<(u32, u32), u32>,
    /// Words that are tokens as a whole → their ids.
    words: Words,
    /// The merges in order, as pairs of ids.
    pairs: Vec<(u32, u32)>,
    /// Bytes of every token without [`END_OF_WORD`], and whether it ends a word.
    tokens: Vec<(Box<[u8]>, bool)>,
}

/// Bytes of a word → its id. Short words, nearly all, are keys by themselves: to compare them no other memory is read.
#[derive(Default)]
struct Words {
    short: FxHashMap<u128, u32>,
    long: FxHashMap<Box<[u8]>, u32>,
}

impl Words {
    /// Up to 15 bytes and their number.
    fn short(word: &[u8]) -> Option<u128> {
        let mut bytes = [0; 16];
        bytes[..15].get_mut(..word.len())?.copy_from_slice(word);
        bytes[15] = word.len() as u8;
        Some(u128::from_le_bytes(bytes))
    }

    fn insert(&mut self, word: Box<[u8]>, id: u32) {
        match Self::short(&word) {
            Some(key) => self.short.insert(key, id),
            None => self.long.insert(word, id),
        };
    }

    fn get(&self, word: &[u8]) -> Option<u32> {
        match Self::short(word) {
            Some(key) => self.short.get(&key).copied(),
            None => self.long.get(word).copied(),
        }
    }
}

impl Bpe {
    /// The vocabulary that is part of this library, parsed on first use.
    pub fn shared() -> &'static Self {
        static BPE: OnceLock<Bpe> = OnceLock::new();
        BPE.get_or_init(Self::parse)
    }

    fn parse() -> Self {
        let file = include_bytes!("../../assets/tokenizer/bpe_simple_vocab_16e6.txt.gz").as_slice();
        // The file has five times as many merges; reading stops after those in use.
        let lines = BufReader::new(GzDecoder::new(file))
            .lines()
            .skip(1)
            .take(MERGES);
        let byte_order = byte_order();
        let mut tokens: Vec<(Box<[u8]>, bool)> = Vec::with_capacity(FIRST_MERGE + MERGES);
        tokens.extend(byte_order.iter().map(|&b| (Box::from([b]), false)));
        tokens.extend(byte_order.iter().map(|&b| (Box::from([b]), true)));
        let byte_of: HashMap<char, u8> = byte_order
            .iter()
            .enumerate()
            .map(|(i, &b)| (symbol(b, i), b))
            .collect();
        let mut ids: HashMap<(Box<[u8]>, bool), u32> =
            (0..).zip(&tokens).map(|(i, t)| (t.clone(), i)).collect();
        let mut pairs = Vec::with_capacity(MERGES);
        let mut merges = FxHashMap::with_capacity_and_hasher(MERGES, FxBuildHasher);
        for line in lines {
            let line = line.expect("the embedded vocabulary is intact");
            let pair = line.split_once(' ').and_then(|(left, right)| {
                let id = |text: &str| {
                    let (body, ends) = text
                        .strip_suffix(END_OF_WORD)
                        .map_or((text, false), |b| (b, true));
                    let bytes: Option<Box<[u8]>> =
                        body.chars().map(|c| byte_of.get(&c).copied()).collect();
                    ids.get(&(bytes?, ends)).copied()
                };
                Some((id(left)?, id(right)?))
            });
            let (left, right) = pair.expect("the embedded vocabulary names known symbols only");
            let (head, tail) = (&tokens[left as usize], &tokens[right as usize]);
            let token = ([&*head.0, &*tail.0].concat().into_boxed_slice(), tail.1);
            let id = tokens.len() as u32;
            ids.insert(token.clone(), id);
            tokens.push(token);
            pairs.push((left, right));
            merges.insert((left, right), id);
        }
        let mut words = Words::default();
        for ((word, ends), id) in ids {
            if ends {
                words.insert(word, id);
            }
        }
        Self {
            merges,
            words,
            pairs,
            tokens,
        }
    }

    /// Ids of a cleaned text, without special tokens around it; stops soon after `limit` ids.
    ///
    /// With `specials`, the spelling of a special token in the text becomes that token, as in
    /// open_clip.
    pub fn encode(&self, text: &str, specials: bool, limit: usize, ids: &mut Vec<i32>) {
        split(text, specials, |piece| {
            match piece {
                START_OF_TEXT if specials => ids.push(START_OF_TEXT_ID),
                END_OF_TEXT if specials => ids.push(END_OF_TEXT_ID),
                _ => self.encode_word(piece.as_bytes(), ids),
            }
            ids.len() < limit
        });
    }

    fn encode_word(&self, word: &[u8], ids: &mut Vec<i32>) {
        // Merging would lead to the same token: a test goes through all of them.
        if let Some(id) = self.words.get(word) {
            ids.push(id as i32);
            return;
        }
        let mut symbols: Vec<u32> = word.iter().map(|&b| byte_id(b)).collect();
        if let Some(last) = symbols.last_mut() {
            *last += 256;
        }
        ids.extend(self.merge(symbols).into_iter().map(|id| id as i32));
    }

    /// Applies the merges in the order of their rank, each from left to right.
    ///
    /// A merge can only enable merges of a higher rank, so a queue of (rank, position) visits them
    /// in the same order as repeated passes over the word would, in O(n log n).
    fn merge(&self, mut symbols: Vec<u32>) -> Vec<u32> {
        const GONE: u32 = u32::MAX;
        let n = symbols.len();
        let mut next: Vec<usize> = (1..=n).collect();
        let mut previous: Vec<usize> = (0..n).map(|i| i.wrapping_sub(1)).collect();
        let pair = |symbols: &[u32], left: usize, right: usize| {
            let (&a, &b) = (symbols.get(left)?, symbols.get(right)?);
            Some(Reverse((*self.merges.get(&(a, b))?, left)))
        };
        let mut queue: BinaryHeap<_> = (0..n).filter_map(|i| pair(&symbols, i, i + 1)).collect();
        while let Some(Reverse((id, left))) = queue.pop() {
            // Entries are not taken out when a neighbour changes; those are recognised here.
            if pair(&symbols, left, next[left]) != Some(Reverse((id, left))) {
                continue;
            }
            let right = next[left];
            symbols[left] = id;
            symbols[right] = GONE;
            next[left] = next[right];
            if let Some(back) = previous.get_mut(next[left]) {
                *back = left;
            }
            queue.extend(pair(&symbols, previous[left], left));
            queue.extend(pair(&symbols, left, next[left]));
        }
        symbols.retain(|&id| id != GONE);
        symbols
    }

    /// Text of ids: words separated by spaces, special tokens spelled out, unknown ids left out.
    pub fn decode(&self, ids: &[i32]) -> String {
        let mut bytes = Vec::new();
        for &id in ids {
            match id {
                START_OF_TEXT_ID => bytes.extend_from_slice(START_OF_TEXT.as_bytes()),
                END_OF_TEXT_ID => bytes.extend_from_slice(END_OF_TEXT.as_bytes()),
                _ => {
                    let Some((token, ends)) =
                        usize::try_from(id).ok().and_then(|i| self.tokens.get(i))
                    else {
                        continue;
                    };
                    bytes.extend_from_slice(token);
                    bytes.extend_from_slice(if *ends { b" " } else { b"" });
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Spelling of every token in the printable alphabet of the vocabulary file, in the order of
    /// the ids.
    pub fn spellings(&self) -> Vec<String> {
        let symbols = symbols();
        let spell = |(bytes, ends): &(Box<[u8]>, bool)| {
            let body = bytes.iter().map(|&b| symbols[b as usize]);
            body.chain(if *ends { END_OF_WORD } else { "" }.chars())
                .collect()
        };
        self.tokens.iter().map(spell).collect()
    }

    /// The merges in the order of their rank, as pairs of ids.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<i32> {
        let mut ids = Vec::new();
        Bpe::shared().encode(text, true, usize::MAX, &mut ids);
        ids
    }

    /// The merge rule word by word, as the paper on subword units states it: the slow reference.
    fn merge_by_passes(bpe: &Bpe, mut symbols: Vec<u32>) -> Vec<u32> {
        loop {
            let ranked = symbols
                .windows(2)
                .filter_map(|w| Some((*bpe.merges.get(&(w[0], w[1]))?, w)));
            let Some((id, pair)) = ranked
                .min_by_key(|(id, _)| *id)
                .map(|(id, w)| (id, [w[0], w[1]]))
            else {
                return symbols;
            };
            let mut merged = Vec::new();
            let mut rest = symbols.as_slice();
            while let Some((&first, tail)) = rest.split_first() {
                let hit = rest.starts_with(&pair);
                merged.push(if hit { id } else { first });
                rest = if hit { &rest[2..] } else { tail };
            }
            symbols = merged;
        }
    }

    #[test]
    fn vocabulary_has_the_published_size_and_ends() {
        let bpe = Bpe::shared();
        assert_eq!(bpe.tokens.len(), 49_406);
        let words = bpe.words.short.len() + bpe.words.long.len();
        let others = bpe.tokens.iter().filter(|token| !token.1).count();
        assert_eq!(words + others, 49_406);
        assert_eq!(bpe.spellings()[512], "in");
        assert_eq!(bpe.spellings()[49_405], "jekyll</w>");
        assert_eq!(bpe.spellings()[byte_id(b' ') as usize], "Ġ");
    }

    #[test]
    fn every_word_of_the_vocabulary_merges_into_itself() {
        let bpe = Bpe::shared();
        for (id, (word, ends)) in (0..).zip(&bpe.tokens) {
            if !ends {
                continue;
            }
            assert_eq!(bpe.words.get(word), Some(id));
            let mut symbols: Vec<u32> = word.iter().map(|&b| byte_id(b)).collect();
            *symbols.last_mut().unwrap() += 256;
            assert_eq!(
                bpe.merge(symbols),
                [id],
                "{:?}",
                String::from_utf8_lossy(word)
            );
        }
    }

    #[test]
    fn queue_and_passes_merge_alike() {
        let bpe = Bpe::shared();
        for word in [
            "supercalifragilisticexpialidocious",
            "aaaaaaaaaaa",
            "lalalala",
            "ΟΔΥΣΣΕΥΣ",
            "キャプション",
            "!!!!!...??",
            "x",
        ] {
            let mut symbols: Vec<u32> = word.bytes().map(byte_id).collect();
            *symbols.last_mut().unwrap() += 256;
            assert_eq!(
                bpe.merge(symbols.clone()),
                merge_by_passes(bpe, symbols),
                "{word}"
            );
        }
    }

    #[test]
    fn merges_enable_only_later_merges() {
        let bpe = Bpe::shared();
        assert!(bpe.merges.iter().all(|(&(a, b), &id)| a < id && b < id));
    }

    #[test]
    fn special_spellings_become_special_ids_unless_they_are_plain_text() {
        assert_eq!(ids("a<end_of_text>"), [320, 49407]);
        let mut plain = Vec::new();
        Bpe::shared().encode("a<end_of_text>", false, usize::MAX, &mut plain);
        assert!(!plain.contains(&END_OF_TEXT_ID));
    }

    #[test]
    fn decoding_gives_the_words_back() {
        let text = "naïve café , 1 2 3 🙂 ";
        assert_eq!(Bpe::shared().decode(&ids(text)), text);
        assert_eq!(
            Bpe::shared().decode(&[49406, 320, -1, 99_999, 49407]),
            "<start_of_text>a <end_of_text>"
        );
    }
}
