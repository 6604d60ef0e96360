//! Fewer tokens of a caption (section 3.2 of the paper: masking strategies, and the final sub-caption).

use crate::sentences::{Splitting, sentences};
use clip::tokenizer::{Tokenizer, TokenizerError};
use rand::{Rng, seq::index};
use serde::{Deserialize, Serialize};

/// Which tokens stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The first ones.
    Truncation,
    /// Any, drawn without replacement; their order stays.
    RandomMask,
    /// Neighbours, from a place that is drawn.
    BlockMask,
    /// Whole sentences in a drawn order until the budget is full; the last one is cut.
    SubCaptionMask,
    /// One sentence, drawn: what CLIPS trains with.
    #[default]
    SubCaption,
}

/// The `[method.reduction]` table: how a synthetic caption becomes the partial one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reduction {
    /// truncation, random-mask, block-mask, sub-caption-mask or sub-caption.
    pub strategy: Strategy,
    /// Tokens that stay at most, special ones not counted; absent: as many as the context holds.
    pub budget: Option<usize>,
    /// How sentences are told: release or repaired.
    pub splitting: Splitting,
}

impl Reduction {
    /// The tokens of a caption that stay, without special tokens: at most `room`, and at most the budget. All of them where
    /// they are no more than that, but for [`Strategy::SubCaption`], which always takes one sentence.
    ///
    /// # Errors
    ///
    /// If the tokenizer cannot read the caption.
    pub fn pieces(
        &self,
        caption: &str,
        tokenizer: &Tokenizer,
        room: usize,
        rng: &mut impl Rng,
    ) -> Result<Vec<i32>, TokenizerError> {
        let keep = self.budget.map_or(room, |budget| budget.min(room));
        if self.strategy == Strategy::SubCaption {
            let parts = sentences(caption, self.splitting);
            let part = match parts.is_empty() {
                true => caption,
                false => parts[rng.random_range(0..parts.len())],
            };
            return Ok(truncation(tokenizer.pieces(part)?, keep));
        }
        let pieces = tokenizer.pieces(caption)?;
        if pieces.len() <= keep {
            return Ok(pieces);
        }
        Ok(match self.strategy {
            Strategy::RandomMask => random_mask(&pieces, keep, rng),
            Strategy::BlockMask => block_mask(&pieces, keep, rng),
            Strategy::SubCaptionMask => {
                let parts = sentences(caption, self.splitting);
                let parts = parts.iter().map(|part| tokenizer.pieces(part));
                sub_caption_mask(parts.collect::<Result<_, _>>()?, keep, rng)
            }
            Strategy::Truncation | Strategy::SubCaption => truncation(pieces, keep),
        })
    }
}

/// The first `keep` tokens.
pub fn truncation(mut tokens: Vec<i32>, keep: usize) -> Vec<i32> {
    tokens.truncate(keep);
    tokens
}

/// `keep` tokens at places drawn uniformly without replacement, in their order; all of them if there are no more.
pub fn random_mask(tokens: &[i32], keep: usize, rng: &mut impl Rng) -> Vec<i32> {
    if tokens.len() <= keep {
        return tokens.to_vec();
    }
    let mut places = index::sample(rng, tokens.len(), keep).into_vec();
    places.sort_unstable();
    places.into_iter().map(|place| tokens[place]).collect()
}

/// `keep` neighbouring tokens from a start drawn uniformly, the last possible one included; all of them if there are no
/// more.
pub fn block_mask(tokens: &[i32], keep: usize, rng: &mut impl Rng) -> Vec<i32> {
    if tokens.len() <= keep {
        return tokens.to_vec();
    }
    let start = rng.random_range(0..=tokens.len() - keep);
    tokens[start..start + keep].to_vec()
}

/// Sentences drawn without replacement, one behind the other in the order of the draws, until there are `keep` tokens; the
/// last one is cut.
pub fn sub_caption_mask(mut pool: Vec<Vec<i32>>, keep: usize, rng: &mut impl Rng) -> Vec<i32> {
    let mut kept = Vec::new();
    while kept.len() < keep && !pool.is_empty() {
        let drawn = rng.random_range(0..pool.len());
        kept.append(&mut pool.swap_remove(drawn));
    }
    truncation(kept, keep)
}

#[cfg(test)]
mod tests {
    use super::Strategy; // proptest has another
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const DRAWS: usize = 100_000;

    /// Pearson's statistic of counts that should be alike, less its mean, in its standard deviations.
    fn chi_squared(counts: &[usize]) -> f64 {
        let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
        let statistic: f64 = counts
            .iter()
            .map(|count| (*count as f64 - expected).powi(2) / expected)
            .sum();
        let freedom = counts.len() as f64 - 1.0;
        (statistic - freedom) / (2.0 * freedom).sqrt()
    }

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(5)
    }

    #[test]
    fn every_start_of_a_block_is_as_likely_and_the_last_one_is_reached() {
        let tokens: Vec<i32> = (0..12).collect();
        let mut counts = [0; 9];
        let mut rng = rng();
        for _ in 0..DRAWS {
            let block = block_mask(&tokens, 4, &mut rng);
            assert!(block.windows(2).all(|pair| pair[1] == pair[0] + 1) && block.len() == 4);
            counts[block[0] as usize] += 1;
        }
        assert!(counts[8] > 0);
        assert!(chi_squared(&counts).abs() < 4.0, "{counts:?}");
    }

    #[test]
    fn every_set_of_tokens_is_as_likely_and_keeps_its_order() {
        let tokens: Vec<i32> = (0..5).collect();
        let mut counts = std::collections::BTreeMap::new();
        let mut rng = rng();
        for _ in 0..DRAWS {
            let kept = random_mask(&tokens, 2, &mut rng);
            assert!(kept[0] < kept[1]);
            *counts.entry(kept).or_insert(0) += 1;
        }
        let counts: Vec<usize> = counts.into_values().collect();
        assert_eq!(counts.len(), 10, "of five tokens two");
        assert!(chi_squared(&counts).abs() < 4.0, "{counts:?}");
    }

    #[test]
    fn sentences_are_drawn_until_the_budget_is_full_in_every_order() {
        let pool = vec![vec![1, 2], vec![3], vec![4, 5, 6]];
        let mut counts = std::collections::BTreeMap::new();
        let mut rng = rng();
        for _ in 0..DRAWS {
            let kept = sub_caption_mask(pool.clone(), 4, &mut rng);
            *counts.entry(kept).or_insert(0) += 1;
        }
        let kept: Vec<_> = counts.keys().cloned().collect();
        let expected: [&[i32]; 6] = [
            &[1, 2, 3, 4],
            &[1, 2, 4, 5],
            &[3, 1, 2, 4],
            &[3, 4, 5, 6],
            &[4, 5, 6, 1],
            &[4, 5, 6, 3],
        ];
        assert_eq!(kept, expected);
        let counts: Vec<usize> = counts.into_values().collect();
        assert!(chi_squared(&counts).abs() < 4.0, "{counts:?}");
        assert_eq!(
            sub_caption_mask(vec![vec![7]], 4, &mut rng),
            [7],
            "no more than there is"
        );
    }

    #[test]
    fn one_sentence_is_taken_all_alike_and_its_end_is_gone() {
        let tokenizer = Tokenizer::clip();
        let mut counts = std::collections::BTreeMap::new();
        let mut rng = rng();
        for _ in 0..DRAWS / 10 {
            let kept =
                Reduction::default().pieces("A dog. Two cats! A kite", &tokenizer, 75, &mut rng);
            *counts.entry(tokenizer.decode(&kept.unwrap())).or_insert(0) += 1;
        }
        let (texts, counts): (Vec<_>, Vec<usize>) = counts.into_iter().unzip();
        assert_eq!(
            texts.iter().map(|text| text.trim()).collect::<Vec<_>>(),
            ["a dog", "a kite", "two cats"]
        );
        assert!(chi_squared(&counts).abs() < 4.0, "{counts:?}");
    }

    #[test]
    fn the_same_stream_gives_the_same_tokens() {
        let caption = "one two three four. five six seven! eight nine ten eleven";
        let tokenizer = Tokenizer::clip();
        let kept = |strategy| {
            let reduction = Reduction {
                strategy,
                budget: Some(4),
                ..Reduction::default()
            };
            let kept = reduction
                .pieces(caption, &tokenizer, 75, &mut rng())
                .unwrap();
            tokenizer.decode(&kept).trim().to_string()
        };
        let kept = [
            Strategy::Truncation,
            Strategy::RandomMask,
            Strategy::BlockMask,
            Strategy::SubCaptionMask,
            Strategy::SubCaption,
        ]
        .map(kept);
        assert_eq!(
            kept,
            [
                "one two three four",
                "three four eight nine",
                "three four . five",
                "one two three four",
                "one two three four"
            ]
        );
    }

    proptest! {
        #[test]
        fn no_strategy_keeps_more_than_the_budget_or_changes_a_caption_that_fits(
            words in prop::collection::vec("[a-d]{1,3}", 0..20), budget in 1usize..12, seed: u64,
        ) {
            let caption = words.join(" ");
            let tokenizer = Tokenizer::clip();
            let all = tokenizer.pieces(&caption).unwrap();
            for strategy in [
                Strategy::Truncation, Strategy::RandomMask, Strategy::BlockMask, Strategy::SubCaptionMask, Strategy::SubCaption,
            ] {
                let reduction = Reduction { strategy, budget: Some(budget), ..Reduction::default() };
                let kept = reduction.pieces(&caption, &tokenizer, 75, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
                prop_assert_eq!(kept.len(), all.len().min(budget));
                if all.len() <= budget {
                    prop_assert_eq!(kept, all.clone());
                }
            }
        }
    }
}
