//! Choosing a few training images per class.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::error::{EvalError, Result};
use crate::probe::permutation;

/// The first `k` images of each class in a random order that depends on the seed alone; all images if `k` is `None`.
///
/// Fails if a class has fewer than `k` images.
pub fn few_per_class(labels: &[usize], k: Option<usize>, seed: u64) -> Result<Vec<usize>> {
    let order = permutation(labels.len(), &mut ChaCha8Rng::seed_from_u64(seed));
    let Some(k) = k else { return Ok(order) };
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    for image in order {
        let count = counts.entry(labels[image]).or_default();
        if *count < k {
            *count += 1;
            chosen.push(image);
        }
    }
    match counts.iter().find(|&(_, &count)| count < k) {
        Some((class, count)) => Err(EvalError::Option {
            option: "fewshot_k",
            reason: format!("class {class} has only {count} of the {k} images asked for"),
        }),
        None => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_gives_k_images_and_the_seed_decides_which() {
        let labels: Vec<usize> = (0..60).map(|i| i % 3).collect();
        let chosen = few_per_class(&labels, Some(4), 1).unwrap();
        for class in 0..3 {
            assert_eq!(chosen.iter().filter(|&&i| labels[i] == class).count(), 4);
        }
        assert_eq!(chosen, few_per_class(&labels, Some(4), 1).unwrap());
        assert_ne!(chosen, few_per_class(&labels, Some(4), 2).unwrap());
        let mut all = few_per_class(&labels, None, 1).unwrap();
        all.sort_unstable();
        assert_eq!(all, (0..60).collect::<Vec<_>>());
    }
}
