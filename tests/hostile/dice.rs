//! What a seed decides.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A generator that has one to three hostile choices to spend.
pub struct Dice {
    rng: ChaCha8Rng,
    left: u32,
    /// Choices there were to make, and which of them are hostile where that is drawn beforehand.
    made: usize,
    drawn: Option<Vec<usize>>,
}

impl Dice {
    pub fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let left = rng.random_range(1..=3);
        Self {
            rng,
            left,
            made: 0,
            drawn: None,
        }
    }

    /// Whether the choice at hand is a hostile one.
    pub fn bad(&mut self) -> bool {
        if self.left == 0 {
            return false;
        }
        self.made += 1;
        let bad = match &self.drawn {
            None => self.rng.random_ratio(1, 5),
            Some(drawn) => drawn.contains(&self.made),
        };
        self.left -= u32::from(bad);
        bad
    }

    /// What is made while no choice is hostile.
    pub fn honestly<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> T {
        let left = std::mem::take(&mut self.left);
        let made = make(self);
        self.left = left;
        made
    }

    /// What is made with about half of the hostile choices that are left, each of which falls on any of the choices in it:
    /// they are counted first. Behind it no choice is hostile.
    pub fn evenly<T>(&mut self, make: impl Fn(&mut Self) -> T) -> T {
        if self.left == 0 || self.drawn.is_some() {
            return make(self);
        }
        let mut counting = Self {
            rng: self.rng.clone(),
            left: u32::MAX,
            made: 0,
            drawn: Some(Vec::new()),
        };
        make(&mut counting);
        let choices = counting.made.max(1);
        let drawn = (0..self.left).filter_map(|_| match counting.below(2) {
            0 => None,
            _ => Some(1 + counting.below(choices)),
        });
        (self.made, self.drawn) = (0, Some(drawn.collect()));
        let made = make(self);
        (self.left, self.drawn) = (0, None);
        made
    }

    /// The same where the hostile choices belong here; what is made honestly elsewhere.
    pub fn only<T>(&mut self, here: bool, make: impl Fn(&mut Self) -> T) -> T {
        match here {
            true => self.evenly(make),
            false => self.honestly(make),
        }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A number at the border of a type, or far from what anyone means.
    pub fn number(&mut self) -> u64 {
        let borders = [7, 8, 15, 16, 31, 32, 40, 48, 53, 60, 62, 63];
        let border = 1u64 << self.pick(&borders);
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::MAX - self.below(600) as u64,
            4 => border - 1,
            5 => border + 1,
            6 => self.below(1000) as u64,
            _ => border,
        }
    }

    /// `usual`, or a number that is not.
    pub fn or_number(&mut self, usual: u64) -> u64 {
        match self.bad() {
            true => self.number(),
            false => usual,
        }
    }

    /// A text that a name or a caption should not be.
    pub fn text(&mut self) -> String {
        let texts = [
            "",
            " ",
            "\0",
            "a\0b.jpg",
            "../../../../../../etc/passwd",
            "/etc/passwd",
            "/dev/zero",
            "/dev/stdin/x",
            "..",
            ".",
            "/",
            "a//b/",
            "con.jpg",
            "a.jpg.jpg.",
            "\u{feff}a",
            "\u{202e}gpj.a",
            "ä\u{308}\u{301}\u{20dd}",
            "👩‍👩‍👧‍👦",
            "\r\n\t\"'",
            "{}{c}{0}%s%n$(x)",
            "a\nb,c\td",
            "-1",
            "NaN",
            "<|endoftext|>",
            "<script>",
        ];
        match self.below(10) {
            0 => "x".repeat(70_000),
            1 => "ä/".repeat(2_100),
            2 => "[".repeat(3_000),
            _ => (*self.pick(&texts)).to_string(),
        }
    }

    pub fn or_text(&mut self, usual: &str) -> String {
        match self.bad() {
            true => self.text(),
            false => usual.to_string(),
        }
    }

    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// The bytes, or some of them: cut, with a stretch twice, with noise, with something behind.
    pub fn mangled(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.is_empty() || !self.bad() {
            return bytes;
        }
        let at = self.below(bytes.len());
        match self.below(5) {
            0 => bytes.truncate(at),
            1 => {
                let end = (at + 1 + self.below(600)).min(bytes.len());
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            2 => bytes[at] = *self.pick(&[0, 1, 0x7f, 0x80, 0xff]),
            3 => {
                let len = self.below(9);
                let noise = self.noise(len);
                bytes.splice(at..at, noise);
            }
            _ => bytes.extend(std::iter::repeat_n(0, 700)),
        }
        bytes
    }
}
