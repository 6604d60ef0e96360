//! The search for a weight decay: coarse first, then closer and closer around the best
//! (Radford et al., 2021, appendix A.3, as in CLIP_benchmark).

/// Number of candidates, evenly spaced on a logarithmic scale from 1e-6 to 1e2.
pub const WEIGHT_DECAYS: usize = 97;

/// The candidate with the best accuracy along the search path; of equal ones the first that was tried in a round.
pub fn best_weight_decay(mut accuracy: impl FnMut(f64) -> f64) -> f64 {
    let coarse: Vec<usize> = (0..WEIGHT_DECAYS).step_by(16).collect();
    let mut peak = best_of(&coarse, &mut accuracy);
    let mut span = 8;
    while span > 0 {
        let around = [
            peak.saturating_sub(span),
            peak,
            (peak + span).min(WEIGHT_DECAYS - 1),
        ];
        peak = best_of(&around, &mut accuracy);
        span /= 2;
    }
    candidate(peak)
}

fn candidate(index: usize) -> f64 {
    10f64.powf(-6.0 + 8.0 * index as f64 / (WEIGHT_DECAYS - 1) as f64)
}

/// Index 0 if nothing scores above zero.
fn best_of(indices: &[usize], accuracy: &mut impl FnMut(f64) -> f64) -> usize {
    let (mut best, mut highest) = (0, 0.0);
    for &index in indices {
        let accuracy = accuracy(candidate(index));
        if accuracy > highest {
            (best, highest) = (index, accuracy);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_closes_in_on_a_single_peak_in_nineteen_trainings() {
        for peak in [0, 5, 16, 50, 77, 96] {
            let mut tried = 0;
            let best = best_weight_decay(|decay| {
                tried += 1;
                1.0 / (1.0 + (decay.log10() - candidate(peak).log10()).abs())
            });
            assert!(
                (best.log10() - candidate(peak).log10()).abs() < 1e-9,
                "peak {peak}: {best}"
            );
            assert_eq!(tried, 7 + 4 * 3);
        }
        assert_eq!((candidate(0), candidate(96)), (1e-6, 100.0));
    }

    #[test]
    fn equal_accuracies_keep_the_first_and_zero_keeps_index_zero() {
        assert_eq!(best_weight_decay(|_| 0.0), candidate(0));
        assert_eq!(best_weight_decay(|_| 0.5), candidate(0));
    }
}
