//! Random choices that depend on nothing but the place they are made for.
//!
//! Every part of a scene (its objects, its pixels, each kind of caption) draws from its own stream, so that a change in
//! how one is made never moves another. ChaCha8 is fixed by its specification and the few ways to draw from it are
//! written out here, so the numbers are the same on every machine and with every version of `rand`.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Which images: the splits share no random stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To train on.
    Train = 0,
    /// To choose a model by.
    Validation = 1,
    /// To report.
    Test = 2,
}

impl Split {
    /// Lower-case name: "train", "validation" or "test".
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What a stream is used for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Classes = 1,
    Truth,
    Backdrop,
    Distractors,
    WebCaption,
    Rewrites,
    SyntheticCaption,
    TestCaptions,
}

/// A seeded stream of choices.
#[derive(Clone, Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of one purpose for one image.
    pub fn new(seed: u64, split: Split, index: usize, purpose: Purpose) -> Self {
        let parts = [seed, split as u64, index as u64, purpose as u64];
        let mut key = [0; 32];
        for (bytes, part) in key.chunks_exact_mut(8).zip(parts) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A whole number in `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        // Multiply and shift: one draw, and a bias under n / 2^32.
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// A whole number in `low..=high`.
    pub fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        // Strictly below, so that 0 is never and 1 is always.
        f64::from(self.0.next_u32()) < p * 4_294_967_296.0
    }

    /// One of `choices`, which must not be empty.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Fisher–Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_depends_on_every_part_of_its_place() {
        let draw =
            |seed, split, index, purpose| Dice::new(seed, split, index, purpose).0.next_u64();
        let first = draw(0, Split::Train, 0, Purpose::Truth);
        assert_eq!(first, draw(0, Split::Train, 0, Purpose::Truth));
        for other in [
            draw(1, Split::Train, 0, Purpose::Truth),
            draw(0, Split::Test, 0, Purpose::Truth),
            draw(0, Split::Train, 1, Purpose::Truth),
            draw(0, Split::Train, 0, Purpose::Classes),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn chance_keeps_its_ends_and_its_rate() {
        let mut dice = Dice::new(0, Split::Train, 0, Purpose::Truth);
        assert!((0..1000).all(|_| dice.chance(1.0) && !dice.chance(0.0)));
        let hits = (0..10_000).filter(|_| dice.chance(0.3)).count();
        assert!((2850..3150).contains(&hits), "{hits} of 10000");
    }

    #[test]
    fn below_reaches_every_number_and_no_other() {
        let mut dice = Dice::new(0, Split::Train, 0, Purpose::Truth);
        let mut seen = [0; 7];
        (0..7000).for_each(|_| seen[dice.below(7)] += 1);
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
    }
}
