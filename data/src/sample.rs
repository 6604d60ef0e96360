//! One image with its captions.

use rand::Rng;
use serde::{Deserialize, Serialize};

/// One image with everything that is known about it. Nothing is decoded yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Name of the sample inside its source: the key of a shard, a path.
    pub key: String,
    /// The encoded image file (JPEG, PNG, WebP ...).
    pub image: Vec<u8>,
    /// Captions by kind.
    pub captions: Captions,
    /// Class index, where the source has classes.
    pub label: Option<usize>,
    /// Stored text embeddings of the captions. Where a source is configured with several embedding
    /// fields, their vectors lie one after another in the configured order, all of the same length.
    pub embedding: Option<Vec<f32>>,
}

/// The captions of an image, by where they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Captions {
    /// What stood beside the image on the web, or what a person wrote.
    pub web: Vec<String>,
    /// The web caption in other words, by a language model that did not see the image (LaCLIP).
    pub rewrites: Vec<String>,
    /// Descriptions by a model that saw the image (Recap-DataComp, DreamLIP).
    pub synthetic: Vec<String>,
}

/// The kinds of captions, see [`Captions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionKind {
    /// [`Captions::web`].
    Web,
    /// [`Captions::rewrites`].
    Rewrite,
    /// [`Captions::synthetic`].
    Synthetic,
}

impl Captions {
    /// The captions of one kind.
    pub fn of(&self, kind: CaptionKind) -> &[String] {
        match kind {
            CaptionKind::Web => &self.web,
            CaptionKind::Rewrite => &self.rewrites,
            CaptionKind::Synthetic => &self.synthetic,
        }
    }

    /// Adds a caption; blank ones are dropped.
    pub fn push(&mut self, kind: CaptionKind, caption: impl Into<String>) {
        let caption = caption.into();
        if caption.trim().is_empty() {
            return;
        }
        match kind {
            CaptionKind::Web => self.web.push(caption),
            CaptionKind::Rewrite => self.rewrites.push(caption),
            CaptionKind::Synthetic => self.synthetic.push(caption),
        }
    }

    /// True if there is no caption of any kind.
    pub fn is_empty(&self) -> bool {
        self.web.is_empty() && self.rewrites.is_empty() && self.synthetic.is_empty()
    }
}

/// How often each kind of caption is drawn when a method wants one caption per image.
///
/// The weights are relative. Kinds are tried in an order drawn by weight and the first that has a
/// caption wins, as open_clip's `--json-text-key-probs` does with fields; inside the kind all
/// captions are equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptionMix {
    /// Weight of web captions.
    pub web: f64,
    /// Weight of rewrites.
    pub rewrites: f64,
    /// Weight of synthetic captions.
    pub synthetic: f64,
}

impl Default for CaptionMix {
    /// Web captions only.
    fn default() -> Self {
        Self {
            web: 1.0,
            rewrites: 0.0,
            synthetic: 0.0,
        }
    }
}

impl CaptionMix {
    /// Draws one caption; `None` if no kind of positive weight has one.
    pub fn draw<'a>(&self, captions: &'a Captions, rng: &mut impl Rng) -> Option<&'a str> {
        let mut kinds = [
            (CaptionKind::Web, self.web),
            (CaptionKind::Rewrite, self.rewrites),
            (CaptionKind::Synthetic, self.synthetic),
        ];
        // One draw is enough: leaving out the empty kinds and drawing among the rest gives the same
        // law as drawing an order and taking the first kind that is not empty.
        kinds
            .iter_mut()
            .filter(|(kind, _)| captions.of(*kind).is_empty())
            .for_each(|k| k.1 = 0.0);
        let total: f64 = kinds.iter().map(|k| k.1.max(0.0)).sum();
        if total <= 0.0 {
            return None;
        }
        let mut at = rng.random::<f64>() * total;
        let (kind, _) = *kinds
            .iter()
            .filter(|k| k.1 > 0.0)
            .find(|k| {
                at -= k.1;
                at < 0.0
            })
            .or(kinds.iter().rfind(|k| k.1 > 0.0))?;
        let of_kind = captions.of(kind);
        of_kind
            .get(rng.random_range(0..of_kind.len()))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn captions() -> Captions {
        Captions {
            web: vec!["w".into()],
            rewrites: vec![],
            synthetic: vec!["s".into(), "t".into()],
        }
    }

    #[test]
    fn blank_captions_are_dropped() {
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, " \n");
        assert!(captions.is_empty());
        captions.push(CaptionKind::Synthetic, "a cat");
        assert_eq!(captions.of(CaptionKind::Synthetic), ["a cat"]);
    }

    #[test]
    fn a_mix_draws_kinds_by_weight_and_falls_back_to_those_present() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mix = CaptionMix {
            web: 1.0,
            rewrites: 2.0,
            synthetic: 1.0,
        };
        let draws: Vec<_> = (0..4000)
            .map(|_| mix.draw(&captions(), &mut rng).unwrap().to_string())
            .collect();
        let share = |c: &str| draws.iter().filter(|d| *d == c).count() as f64 / 4000.0;
        // Rewrites are absent, so web and synthetic share the draws equally, and the two synthetic
        // ones theirs.
        assert!((share("w") - 0.5).abs() < 0.04, "{}", share("w"));
        assert!((share("s") - 0.25).abs() < 0.04, "{}", share("s"));
    }

    #[test]
    fn a_mix_without_a_matching_caption_draws_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let rewrites_only = CaptionMix {
            web: 0.0,
            rewrites: 1.0,
            synthetic: 0.0,
        };
        assert_eq!(rewrites_only.draw(&captions(), &mut rng), None);
        assert_eq!(CaptionMix::default().draw(&captions(), &mut rng), Some("w"));
    }
}
