//! Which of an image's texts are trained on (section 3.3 of the paper; the release's `CsvDatasetAugCap`).

use data::Captions;
use rand::{Rng, RngCore};
use train::TextChoice;

/// One text per visit, uniformly among the original and `rewrites` rewrites.
///
/// A rewrite that is missing, empty or a single word gives way to the original, so that the original is seen a little
/// more often than one time in `rewrites + 1`, as in the release.
#[derive(Clone, Copy, Debug)]
pub struct OneText {
    /// Number of rewrites per image.
    pub rewrites: usize,
}

impl TextChoice for OneText {
    fn choose(&self, captions: &Captions, rng: &mut dyn RngCore) -> Option<Vec<String>> {
        let slot = rng.random_range(0..=self.rewrites);
        Some(vec![text_in(captions, slot)?.to_string()])
    }
}

/// All texts at every visit, the original first: for the multi-text loss. A rewrite that is missing, empty or a single
/// word is replaced by the original.
#[derive(Clone, Copy, Debug)]
pub struct AllTexts {
    /// Number of rewrites per image.
    pub rewrites: usize,
}

impl TextChoice for AllTexts {
    fn choose(&self, captions: &Captions, _: &mut dyn RngCore) -> Option<Vec<String>> {
        (0..=self.rewrites)
            .map(|slot| text_in(captions, slot).map(str::to_string))
            .collect()
    }
}

/// The text in a slot: 0 is the original, `i` the `i`-th rewrite.
fn text_in(captions: &Captions, slot: usize) -> Option<&str> {
    let original = captions.web.first()?;
    let rewrite = slot.checked_sub(1).and_then(|i| captions.rewrites.get(i));
    // More than one word means a space somewhere: the release splits at single spaces.
    Some(
        rewrite
            .filter(|text| text.contains(' '))
            .unwrap_or(original),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn captions() -> Captions {
        Captions {
            web: vec!["original".into()],
            rewrites: vec!["first rewrite".into(), "short".into(), "third one".into()],
            synthetic: vec!["never drawn".into()],
            ..Captions::default()
        }
    }

    #[test]
    fn each_text_is_drawn_alike_and_a_single_word_gives_way_to_the_original() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let choice = OneText { rewrites: 4 }; // the fourth does not exist
        let draws: Vec<String> = (0..10_000)
            .map(|_| choice.choose(&captions(), &mut rng).unwrap().remove(0))
            .collect();
        let share = |text: &str| draws.iter().filter(|d| *d == text).count() as f64 / 10_000.0;
        assert!((share("original") - 0.6).abs() < 0.02);
        assert!((share("first rewrite") - 0.2).abs() < 0.02);
        assert!((share("third one") - 0.2).abs() < 0.02);
    }

    #[test]
    fn all_texts_keep_their_places() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let texts = AllTexts { rewrites: 3 }.choose(&captions(), &mut rng);
        let expected = ["original", "first rewrite", "original", "third one"];
        assert_eq!(texts.unwrap(), expected);
        assert_eq!(
            AllTexts { rewrites: 3 }.choose(&Captions::default(), &mut rng),
            None
        );
    }
}
