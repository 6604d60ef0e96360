//! A shuffle without a table: any element of a random permutation in constant time and memory.

use rand::RngCore;

/// Rounds of the network. Four make a permutation that statistics cannot tell from a random one on
/// large domains (Luby and Rackoff, 1988); small domains need more.
const ROUNDS: usize = 8;

/// Domains are never smaller than 2^8: a network on a few bits reaches only a small part of all
/// permutations.
const MIN_HALF_BITS: u32 = 4;

/// A random permutation of `0..len`.
///
/// A Feistel network permutes the numbers of `2 * half_bits` bits; a result past the end is fed in
/// again until it falls inside ("cycle walking"), which keeps the map one to one. The domain is at
/// most four times `len` (for `len` above 64), so four steps are enough on average.
#[derive(Clone, Debug)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

impl Permutation {
    /// Draws a permutation of `0..len` from `rng`.
    pub fn new(len: u64, rng: &mut impl RngCore) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(MIN_HALF_BITS);
        Self {
            len,
            half_bits,
            keys: std::array::from_fn(|_| rng.next_u64()),
        }
    }

    /// Where `index` goes.
    ///
    /// # Panics
    ///
    /// Panics if `index` is not below `len`.
    pub fn get(&self, index: u64) -> u64 {
        self.walk(index, |value| {
            self.keys
                .iter()
                .fold(value, |value, key| self.round(value, *key))
        })
    }

    /// What goes to `image`: `inverse(get(i)) == i`.
    ///
    /// # Panics
    ///
    /// Panics if `image` is not below `len`.
    pub fn inverse(&self, image: u64) -> u64 {
        self.walk(image, |value| {
            self.keys.iter().rev().fold(value, |value, key| {
                self.swap(self.round(self.swap(value), *key))
            })
        })
    }

    fn walk(&self, start: u64, step: impl Fn(u64) -> u64) -> u64 {
        assert!(
            start < self.len,
            "element {start} of a permutation of {}",
            self.len
        );
        let mut value = step(start);
        while value >= self.len {
            value = step(value);
        }
        value
    }

    /// `(left, right) -> (right, left ^ f(right))`. Its inverse is itself between two swaps of the halves.
    fn round(&self, value: u64, key: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (left, right) = (value >> self.half_bits, value & mask);
        (right << self.half_bits) | (left ^ (mix(right ^ key) & mask))
    }

    fn swap(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        ((value & mask) << self.half_bits) | (value >> self.half_bits)
    }
}

/// The finaliser of SplitMix64: every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn permutation(len: u64, seed: u64) -> Permutation {
        Permutation::new(len, &mut ChaCha8Rng::seed_from_u64(seed))
    }

    proptest! {
        #[test]
        fn every_element_is_hit_once_and_the_inverse_undoes_it(len in 1u64..5000, seed: u64) {
            let permutation = permutation(len, seed);
            let mut seen = vec![false; len as usize];
            for i in 0..len {
                let image = permutation.get(i);
                prop_assert!(!std::mem::replace(&mut seen[image as usize], true));
                prop_assert_eq!(permutation.inverse(image), i);
            }
        }

        #[test]
        fn very_long_permutations_stay_inside_and_invert(len in (1u64 << 40)..(1 << 62), seed: u64, at: u64) {
            let permutation = permutation(len, seed);
            let image = permutation.get(at % len);
            prop_assert!(image < len);
            prop_assert_eq!(permutation.inverse(image), at % len);
        }
    }

    /// Chi-squared over all (position, value) cells, for many keys: each value must be equally
    /// likely everywhere.
    #[test]
    fn each_value_is_equally_likely_at_each_position() {
        for len in [2u64, 3, 7, 20] {
            let keys = 4000;
            let mut cells = vec![0f64; (len * len) as usize];
            for seed in 0..keys {
                let permutation = permutation(len, seed);
                (0..len).for_each(|i| cells[(i * len + permutation.get(i)) as usize] += 1.0);
            }
            let expected = keys as f64 / len as f64;
            let chi2: f64 = cells
                .iter()
                .map(|n| (n - expected).powi(2) / expected)
                .sum();
            let freedom = ((len - 1) * (len - 1)) as f64;
            assert!(
                chi2 < freedom + 5.0 * (2.0 * freedom).sqrt(),
                "len {len}: {chi2} for {freedom}"
            );
        }
    }

    /// All 24 orders of four things come up equally often: the pairs are independent too, not only
    /// single cells.
    #[test]
    fn all_orders_of_four_things_are_equally_likely() {
        let mut orders = std::collections::HashMap::new();
        for seed in 0..12_000 {
            let permutation = permutation(4, seed);
            *orders
                .entry([0, 1, 2, 3].map(|i| permutation.get(i)))
                .or_insert(0f64) += 1.0;
        }
        assert_eq!(orders.len(), 24);
        let chi2: f64 = orders.values().map(|n| (n - 500.0).powi(2) / 500.0).sum();
        assert!(chi2 < 23.0 + 5.0 * 46f64.sqrt(), "{chi2}");
    }

    /// Neighbours in the input must not stay neighbours: their distance averages a third of the
    /// length.
    #[test]
    fn neighbours_are_torn_apart() {
        let len = 100_000u64;
        let permutation = permutation(len, 7);
        let mean = (0..len - 1)
            .map(|i| permutation.get(i).abs_diff(permutation.get(i + 1)) as f64)
            .sum::<f64>()
            / (len - 1) as f64;
        assert!((mean / len as f64 - 1.0 / 3.0).abs() < 0.005, "{mean}");
    }
}
