//! Which token comes next, given logits. Plain numbers on the host.

use crate::error::{Error, Result};
use rand::Rng;
use std::cmp::Ordering;

/// How a token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Mass of the most likely tokens among which one is drawn; 1 keeps all.
    pub top_p: f64,
}

impl Sampling {
    /// Always the most likely token, the lowest id among equals.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_p: 1.0,
    };

    /// Refuses values without a meaning.
    ///
    /// # Errors
    ///
    /// Names the value.
    pub fn check(&self) -> Result<()> {
        let Self { temperature, top_p } = *self;
        if !temperature.is_finite() || temperature < 0.0 {
            return Err(Error::Option {
                option: "temperature",
                reason: format!(
                    "give 0 for the most likely token, or a positive number, not {temperature}"
                ),
            });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::Option {
                option: "top_p",
                reason: format!("give a number above 0 and up to 1, not {top_p}"),
            });
        }
        Ok(())
    }

    /// A token id; `None` if the logits are not finite. Takes one number from `rng`, unless greedy.
    pub fn draw(&self, logits: &[f32], rng: &mut impl Rng) -> Option<u32> {
        let (best, max) = argmax(logits)?;
        if self.temperature == 0.0 {
            return Some(best);
        }
        let weights: Vec<f32> = logits
            .iter()
            .map(|logit| (f64::from(logit - max) / self.temperature).exp() as f32)
            .collect();
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let kept = nucleus(&weights, self.top_p * total);
        let mass: f64 = kept.iter().map(|id| f64::from(weights[*id as usize])).sum();
        let mut left = rng.random::<f64>() * mass;
        for id in &kept {
            left -= f64::from(weights[*id as usize]);
            if left < 0.0 {
                return Some(*id);
            }
        }
        kept.last().copied() // rounding left a crumb
    }
}

fn argmax(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if *logit > best.1 {
            best = (id as u32, *logit);
        }
    }
    best.1.is_finite().then_some(best)
}

/// Ids of the heaviest tokens, heaviest first: those before which less than `mass` or exactly it has been taken.
///
/// The heaviest token is always there, and so is the one that crosses `mass` (LLaMA's `sample_top_p`). Equal
/// weights come in order of their ids.
pub fn nucleus(weights: &[f32], mass: f64) -> Vec<u32> {
    let heavier = |a: &u32, b: &u32| {
        let order = weights[*b as usize].partial_cmp(&weights[*a as usize]);
        order.unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    let mut ids: Vec<u32> = (0..weights.len() as u32).collect();
    // Few tokens hold nearly all mass, so sorting them all would be waste.
    let mut count = 256;
    loop {
        let count_now = count.min(ids.len());
        if count_now < ids.len() {
            ids.select_nth_unstable_by(count_now - 1, heavier);
        }
        let head = &mut ids[..count_now];
        head.sort_unstable_by(heavier);
        let mut before = 0.0;
        let kept = head
            .iter()
            .take_while(|id| {
                let keep = before <= mass;
                before += f64::from(weights[**id as usize]);
                keep
            })
            .count();
        if kept < count_now || count_now == ids.len() {
            ids.truncate(kept);
            return ids;
        }
        count *= 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn the_token_that_crosses_the_mass_is_kept() {
        let weights = [0.1, 0.4, 0.2, 0.3];
        assert_eq!(nucleus(&weights, 0.0), [1]);
        assert_eq!(nucleus(&weights, 0.39), [1]);
        assert_eq!(nucleus(&weights, 0.5), [1, 3]);
        assert_eq!(nucleus(&weights, 0.75), [1, 3, 2]);
        assert_eq!(nucleus(&weights, 1.0), [1, 3, 2, 0]);
        assert_eq!(nucleus(&[0.5, 0.5], 0.3), [0], "equals come by id");
    }

    #[test]
    fn the_short_way_equals_a_full_sort() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let weights: Vec<f32> = (0..5000).map(|_| rng.random::<f32>()).collect();
        let total: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let mut sorted: Vec<u32> = (0..5000).collect();
        sorted.sort_by(|a, b| weights[*b as usize].total_cmp(&weights[*a as usize]));
        for top_p in [0.01, 0.1, 0.5, 0.95, 1.0] {
            let kept = nucleus(&weights, top_p * total);
            assert_eq!(kept, sorted[..kept.len()]);
            let mass = |ids: &[u32]| {
                ids.iter()
                    .map(|id| f64::from(weights[*id as usize]))
                    .sum::<f64>()
            };
            assert!(mass(&kept[..kept.len() - 1]) <= top_p * total);
            assert!(mass(&kept) >= top_p * total * 0.999_999);
        }
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_likely() {
        let sampling = Sampling {
            temperature: 0.5,
            top_p: 0.9,
        };
        // exp(2 ln p) is p squared: 0.25, 0.09, 0.04, of which the last is beyond 0.9 of the mass.
        let logits = [0.2f32.ln(), 0.5f32.ln(), 0.3f32.ln()];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut counts = [0; 3];
        for _ in 0..20_000 {
            counts[sampling.draw(&logits, &mut rng).unwrap() as usize] += 1;
        }
        let share = f64::from(counts[1]) / 20_000.0;
        // 0.25 + 0.09 are 0.895 of all, so the third token is the one that crosses.
        assert!((share - 0.25 / 0.38).abs() < 0.01, "{counts:?}");
        assert_eq!(Sampling::GREEDY.draw(&logits, &mut rng), Some(1));
        assert_eq!(sampling.draw(&[0.0, f32::NAN], &mut rng), None);
    }

    #[test]
    fn values_without_a_meaning_are_refused() {
        for (temperature, top_p) in [(-1.0, 0.9), (f64::NAN, 0.9), (1.0, 0.0), (1.0, 1.1)] {
            let sampling = Sampling { temperature, top_p };
            assert!(sampling.check().is_err(), "{sampling:?}");
        }
    }
}
