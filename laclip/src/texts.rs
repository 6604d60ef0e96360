//! Which of an image's texts are trained on (section 3.3 of the paper; the release's `CsvDatasetAugCap`).

use data::{Captions, Source};
use rand::{Rng, RngCore};
use std::ops::Range;
use train::TextChoice;

/// Samples of a source that are looked at for their rewrites where its counts leave it open.
const LOOKED_AT: usize = 64;

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

    /// As that of [`AllTexts`].
    fn check(&self, source: &dyn Source) -> Result<(), String> {
        check_rewrites(self.rewrites, source)
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

    /// Refuses sources none of whose images has so many rewrites: the original would take their place without a word.
    fn check(&self, source: &dyn Source) -> Result<(), String> {
        check_rewrites(self.rewrites, source)
    }
}

fn check_rewrites(wanted: usize, source: &dyn Source) -> Result<(), String> {
    let (mut start, mut short) = (0, Vec::new());
    for report in source.reports() {
        let places = start..start + report.samples;
        start = places.end;
        let Some(counts) = report.captions else {
            continue;
        };
        // The counts are of rewrites with text. Where their mean is high enough, some image has all; where it is not, the
        // others may be blank, which have their place all the same.
        let mean = counts.rewrites.div_ceil(counts.samples.max(1));
        let most = match mean {
            0 => 0,
            mean if mean >= wanted => continue,
            mean => mean.max(most_rewrites(source, places)),
        };
        if most < wanted {
            short.push(format!("{} has at most {most} for an image", report.name));
        }
    }
    match short.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "method.rewrites = {wanted}, but {}: name all of them in [[data.sources]] (`rewrites`, or captions of \
             kind = \"rewrite\"), or lower method.rewrites",
            short.join(", ")
        )),
    }
}

/// The most rewrites, blank ones included, that an image among some of these has.
fn most_rewrites(source: &dyn Source, places: Range<usize>) -> usize {
    let looked_at = places.len().min(LOOKED_AT);
    let samples = (0..looked_at).map(|i| places.start + i * places.len() / looked_at);
    // What cannot be read is met again when it is loaded.
    let rewrites = samples.filter_map(|i| Some(source.get(i).ok()?.captions.rewrites.len()));
    rewrites.max().unwrap_or(0)
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
    use data::{CaptionCounts, DataError, Sample, SourceReport};
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

    /// Sources one after another: the rewrites of each of their images.
    struct Parts(Vec<Vec<Vec<&'static str>>>);

    impl Source for Parts {
        fn len(&self) -> usize {
            self.0.iter().map(Vec::len).sum()
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            let mut captions = captions();
            let all: Vec<_> = self.0.iter().flatten().collect();
            captions.rewrites = all[index].iter().map(|text| text.to_string()).collect();
            Ok(Sample {
                captions,
                ..Sample::default()
            })
        }

        fn name(&self) -> String {
            "parts".into()
        }

        fn reports(&self) -> Vec<SourceReport> {
            let report = |(number, part): (usize, &Vec<Vec<&str>>)| SourceReport {
                name: format!("part{number}"),
                samples: part.len(),
                captions: Some(CaptionCounts {
                    samples: part.len(),
                    rewrites: part
                        .iter()
                        .flatten()
                        .filter(|text| !text.is_empty())
                        .count(),
                    ..CaptionCounts::default()
                }),
                ..SourceReport::default()
            };
            self.0.iter().enumerate().map(report).collect()
        }
    }

    #[test]
    fn sources_with_fewer_rewrites_than_are_drawn_are_refused_by_name() {
        let full = || vec![vec!["a b", "c d"], vec!["e f", "g h"]];
        // Three of four are blank, but each has its place.
        let blank = || vec![vec!["a b", ""], vec!["", ""]];
        let check = |parts: Vec<_>, rewrites| {
            let source = Parts(parts);
            let one = OneText { rewrites }.check(&source);
            assert_eq!(AllTexts { rewrites }.check(&source), one);
            one
        };
        assert_eq!(check(vec![full(), blank()], 2), Ok(()));
        assert_eq!(check(vec![vec![vec![]]], 0), Ok(()));
        // Some image has all of them; what the others lack is the original's.
        assert_eq!(check(vec![vec![vec![], vec!["a b", "c d"]]], 2), Ok(()));
        let none = vec![vec![], vec![]];
        let message = check(vec![full(), none, blank()], 3).unwrap_err();
        for said in [
            "method.rewrites = 3",
            "part0 has at most 2",
            "part1 has at most 0",
            "part2 has at most 2",
        ] {
            assert!(message.contains(said), "no `{said}` in: {message}");
        }
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
