use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Which tokens are hidden in masked next-token prediction (BehnamGhader et al., 2024, `run_mntp.py`).
#[derive(Debug, Clone, PartialEq)]
pub struct Masking {
    /// Share of the tokens that are to be predicted; special ones never are.
    pub share: f64,
    /// Of those, how many the mask token replaces.
    pub masked: f64,
    /// Of those, how many a random token replaces. The rest stay as they are.
    pub random: f64,
    /// The mask token.
    pub mask: u32,
    /// Random tokens come from the ids below.
    pub vocab_size: usize,
    /// Ids that are never predicted.
    pub special: Vec<u32>,
}

/// A text with hidden tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masked {
    /// What the model sees.
    pub ids: Vec<u32>,
    /// What it is to predict; see [`Predictions::new`](super::Predictions::new).
    pub labels: Vec<Option<u32>>,
}

impl Masking {
    /// LLM2CLIP's: a fifth of the tokens, of which 80 % become `_`, 10 % random ones.
    ///
    /// # Errors
    ///
    /// If `_` is more than one token.
    pub fn llm2clip(tokenizer: &Tokenizer) -> Result<Self> {
        let [mask] = tokenizer.ids("_")?[..] else {
            return Err(Error::Options(
                "`_` is no single token of this tokenizer: name another mask token".into(),
            ));
        };
        Ok(Self {
            share: 0.2,
            masked: 0.8,
            random: 0.1,
            mask,
            vocab_size: tokenizer.vocab_size(),
            special: tokenizer.special_ids(),
        })
    }

    /// Refuses values without a meaning.
    ///
    /// # Errors
    ///
    /// Names the value.
    pub fn check(&self) -> Result<()> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let (masked, random) = (self.masked, self.random);
        if !share(self.share) || !share(masked) || !share(random) || masked + random > 1.0 + 1e-9 {
            return Err(Error::Options(format!(
                "masking a share of {}, of which {masked} masked and {random} random: \
                 shares lie between 0 and 1, and the last two add up to 1 at most",
                self.share
            )));
        }
        if self.mask as usize >= self.vocab_size {
            return Err(Error::Options(format!(
                "the mask token {} is beyond the vocabulary of {}",
                self.mask, self.vocab_size
            )));
        }
        Ok(())
    }

    /// Hides tokens: a function of `seed`, which a caller makes anew for every visit of a text. Every token takes three
    /// numbers, whatever they decide, so one token's lot does not hang on another's.
    pub fn draw(&self, ids: &[u32], seed: u64) -> Masked {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |id: u32| {
            let (chosen, fate): (f64, f64) = (rng.random(), rng.random());
            let other = rng.random_range(0..self.vocab_size.max(1)) as u32;
            if chosen >= self.share || self.special.contains(&id) {
                return (id, None);
            }
            let seen = if fate < self.masked {
                self.mask
            } else if fate < self.masked + self.random {
                other
            } else {
                id
            };
            (seen, Some(id))
        };
        let (ids, labels) = ids.iter().map(|id| draw(*id)).unzip();
        Masked { ids, labels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masking() -> Masking {
        Masking {
            share: 0.2,
            masked: 0.8,
            random: 0.1,
            mask: 9,
            vocab_size: 1000,
            special: vec![0],
        }
    }

    #[test]
    fn a_fifth_is_predicted_most_of_it_masked_and_special_tokens_never() {
        let ids: Vec<u32> = (0..100_000).map(|i| [0, 50, 60, 70][i % 4]).collect();
        let Masked { ids: seen, labels } = masking().draw(&ids, 4);
        let chosen: Vec<usize> = (0..ids.len()).filter(|i| labels[*i].is_some()).collect();
        assert!(
            chosen
                .iter()
                .all(|i| ids[*i] != 0 && labels[*i] == Some(ids[*i]))
        );
        assert!((0..ids.len()).all(|i| labels[i].is_some() || seen[i] == ids[i]));
        let share = |of: usize, all: usize| of as f64 / all as f64;
        assert!((share(chosen.len(), 75_000) - 0.2).abs() < 0.005);
        let count = |is: &dyn Fn(usize) -> bool| chosen.iter().filter(|i| is(**i)).count();
        let masked = share(count(&|i| seen[i] == 9), chosen.len());
        let kept = share(count(&|i| seen[i] == ids[i]), chosen.len());
        assert!((masked - 0.8).abs() < 0.01, "{masked}");
        assert!((kept - 0.1).abs() < 0.01, "{kept}");
    }

    #[test]
    fn a_seed_gives_the_same_masks_and_another_seed_others() {
        let ids: Vec<u32> = (1..200).collect();
        assert_eq!(masking().draw(&ids, 1), masking().draw(&ids, 1));
        assert_ne!(masking().draw(&ids, 1), masking().draw(&ids, 2));
        let start = masking().draw(&ids[..50], 1);
        assert_eq!(start.ids, masking().draw(&ids, 1).ids[..50]);
    }

    #[test]
    fn shares_without_a_meaning_are_refused() {
        let refused = |change: &dyn Fn(&mut Masking)| {
            let mut masking = masking();
            change(&mut masking);
            masking.check().unwrap_err().to_string()
        };
        masking().check().unwrap();
        assert!(refused(&|m| m.share = f64::NAN).contains("NaN"));
        assert!(refused(&|m| m.random = 0.3).contains("0.3"));
        assert!(refused(&|m| m.mask = 1000).contains("1000"));
    }
}
