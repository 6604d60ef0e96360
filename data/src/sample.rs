//! One image with its captions.

use rand::Rng;
use serde::{Deserialize, Serialize};

// A circle on purpose: a sample carries vectors that its shard or store reads when the caption has been drawn.
use crate::embeddings::StoredEmbeddings;

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
    /// Stored text embeddings of the captions, by field; they are read when they are asked for.
    pub embeddings: Option<StoredEmbeddings>,
}

/// The captions of an image, by where they came from.
///
/// Rewrites keep their place: one that is blank in the data stands here as an empty string, so that
/// slot `i` is the same style of rewrite in every sample. Empty ones are never drawn. Web and
/// synthetic captions that are blank are left out; these are told apart by their field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Captions {
    /// What stood beside the image on the web, or what a person wrote.
    pub web: Vec<String>,
    /// The web caption in other words, by a language model that did not see the image (LaCLIP); empty
    /// where there is none.
    pub rewrites: Vec<String>,
    /// Descriptions by a model that saw the image (Recap-DataComp, DreamLIP).
    pub synthetic: Vec<String>,
    /// How often a caption is drawn among those of its kind: a list for each [`CaptionKind`], in the
    /// order of its variants. Captions beyond the end of their list weigh 1, so that lists are empty
    /// where all are equally likely.
    pub weights: [Vec<f64>; 3],
    /// The JSON field or column that a caption came from: a list for each [`CaptionKind`], as with
    /// the weights. Captions beyond the end of their list have none.
    pub fields: [Vec<String>; 3],
}

/// The kinds of captions, see [`Captions`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionKind {
    /// [`Captions::web`].
    #[default]
    Web,
    /// [`Captions::rewrites`].
    Rewrite,
    /// [`Captions::synthetic`].
    Synthetic,
}

impl CaptionKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Web, Self::Rewrite, Self::Synthetic];
}

impl Captions {
    /// The captions of one kind, those without text too.
    pub fn of(&self, kind: CaptionKind) -> &[String] {
        match kind {
            CaptionKind::Web => &self.web,
            CaptionKind::Rewrite => &self.rewrites,
            CaptionKind::Synthetic => &self.synthetic,
        }
    }

    /// The captions of one kind that have text.
    pub fn filled(&self, kind: CaptionKind) -> impl Iterator<Item = &str> {
        let captions = self.of(kind).iter().map(String::as_str);
        captions.filter(|caption| !caption.is_empty())
    }

    /// The captions with text that came from a field or column.
    pub fn of_field(&self, field: &str) -> impl Iterator<Item = &str> {
        CaptionKind::ALL.into_iter().flat_map(move |kind| {
            let named = self.of(kind).iter().zip(&self.fields[kind as usize]);
            named
                .filter(move |(caption, name)| !caption.is_empty() && *name == field)
                .map(|(caption, _)| caption.as_str())
        })
    }

    /// The captions with text, by name: that of their field or column, or else `web`, `rewrite` or `synthetic`. The second
    /// and later ones of a name carry their place among them: `rewrite`, `rewrite.1`, `rewrite.2`.
    pub fn named(&self) -> Vec<(String, &str)> {
        let mut named: Vec<(String, &str)> = Vec::new();
        for (kind, kind_name) in CaptionKind::ALL
            .into_iter()
            .zip(["web", "rewrite", "synthetic"])
        {
            let fields = &self.fields[kind as usize];
            let name = |place: usize| match fields.get(place).map(String::as_str) {
                None | Some("") => kind_name,
                Some(field) => field,
            };
            for (place, caption) in self.of(kind).iter().enumerate() {
                let nth = (0..place)
                    .filter(|before| name(*before) == name(place))
                    .count();
                let name = match nth {
                    0 => name(place).to_string(),
                    nth => format!("{}.{nth}", name(place)),
                };
                if !caption.is_empty() {
                    named.push((name, caption));
                }
            }
        }
        named
    }

    /// Adds a caption of weight 1.
    pub fn push(&mut self, kind: CaptionKind, caption: impl Into<String>) {
        self.push_weighted(kind, caption, 1.0);
    }

    /// Adds a caption that is drawn `weight` times as often as one of weight 1 of its kind. A blank
    /// rewrite takes its place as an empty string; blank captions of other kinds are dropped.
    pub fn push_weighted(&mut self, kind: CaptionKind, caption: impl Into<String>, weight: f64) {
        self.add(kind, caption.into(), weight, "");
    }

    pub(crate) fn add(&mut self, kind: CaptionKind, mut caption: String, weight: f64, field: &str) {
        if caption.trim().is_empty() {
            if kind != CaptionKind::Rewrite {
                return;
            }
            caption.clear();
        }
        let place = self.of(kind).len();
        if weight != 1.0 {
            let weights = &mut self.weights[kind as usize];
            weights.resize(place, 1.0);
            weights.push(weight);
        }
        if !field.is_empty() {
            let fields = &mut self.fields[kind as usize];
            fields.resize(place, String::new());
            fields.push(field.to_string());
        }
        match kind {
            CaptionKind::Web => self.web.push(caption),
            CaptionKind::Rewrite => self.rewrites.push(caption),
            CaptionKind::Synthetic => self.synthetic.push(caption),
        }
    }

    /// The weights of the captions of one kind; that of an empty one is 0.
    fn weights_of(&self, kind: CaptionKind) -> Vec<f64> {
        let known = &self.weights[kind as usize];
        let weight = |(place, caption): (usize, &String)| match caption.is_empty() {
            true => 0.0,
            false => known.get(place).copied().unwrap_or(1.0),
        };
        self.of(kind).iter().enumerate().map(weight).collect()
    }

    /// True if there is no caption with text of any kind.
    pub fn is_empty(&self) -> bool {
        let mut kinds = CaptionKind::ALL.into_iter();
        kinds.all(|kind| self.filled(kind).next().is_none())
    }
}

/// How often each kind of caption is drawn when a method wants one caption per image.
///
/// The weights are relative. Kinds are tried in an order drawn by weight and the first that has a
/// caption wins, as open_clip's `--json-text-key-probs` does with fields; inside the kind captions
/// are drawn by [`Captions::weights`], by default all alike.
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
        let kinds = [
            (CaptionKind::Web, self.web),
            (CaptionKind::Rewrite, self.rewrites),
            (CaptionKind::Synthetic, self.synthetic),
        ];
        // One draw is enough: leaving out the empty kinds and drawing among the rest gives the same
        // law as drawing an order and taking the first kind that is not empty.
        let weights = kinds.map(|(kind, weight)| {
            let drawn = captions.weights_of(kind).iter().any(|weight| *weight > 0.0);
            if drawn { weight } else { 0.0 }
        });
        let (kind, _) = kinds[place_by_weight(&weights, rng)?];
        let of_kind = captions.of(kind);
        // Where all are alike, one draw of an integer: the choice of old runs.
        let alike = captions.weights[kind as usize].is_empty()
            && of_kind.iter().all(|caption| !caption.is_empty());
        let place = if alike {
            rng.random_range(0..of_kind.len())
        } else {
            place_by_weight(&captions.weights_of(kind), rng)?
        };
        of_kind.get(place).map(String::as_str)
    }
}

/// A place in `weights`, drawn by weight; `None` if none is positive.
fn place_by_weight(weights: &[f64], rng: &mut impl Rng) -> Option<usize> {
    let total: f64 = weights.iter().map(|weight| weight.max(0.0)).sum();
    if total <= 0.0 {
        return None;
    }
    let mut at = rng.random::<f64>() * total;
    let mut positive = (0..weights.len()).filter(|place| weights[*place] > 0.0);
    let last = positive.clone().next_back();
    positive
        .find(|place| {
            at -= weights[*place];
            at < 0.0
        })
        .or(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn captions_are_named_by_field_or_kind_and_place() {
        let mut captions = Captions::default();
        captions.add(CaptionKind::Web, "w".into(), 1.0, "raw");
        for text in ["r", "", "t"] {
            captions.push(CaptionKind::Rewrite, text);
        }
        captions.add(CaptionKind::Synthetic, "s".into(), 1.0, "long");
        captions.add(CaptionKind::Synthetic, "u".into(), 1.0, "long");
        let expected = [
            ("raw", "w"),
            ("rewrite", "r"),
            ("rewrite.2", "t"),
            ("long", "s"),
            ("long.1", "u"),
        ];
        let expected = expected.map(|(name, text)| (name.to_string(), text));
        assert_eq!(captions.named(), expected);
    }

    fn captions() -> Captions {
        Captions {
            web: vec!["w".into()],
            rewrites: vec![],
            synthetic: vec!["s".into(), "t".into()],
            ..Captions::default()
        }
    }

    /// Shares of 4000 draws.
    fn shares(mix: CaptionMix, captions: &Captions) -> impl Fn(&str) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let draws: Vec<_> = (0..4000)
            .map(|_| mix.draw(captions, &mut rng).unwrap().to_string())
            .collect();
        move |caption| draws.iter().filter(|d| *d == caption).count() as f64 / 4000.0
    }

    #[test]
    fn blank_rewrites_keep_their_place_but_are_no_captions() {
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, " \n");
        captions.push(CaptionKind::Rewrite, " ");
        captions.push(CaptionKind::Synthetic, "");
        assert!(captions.is_empty());
        assert!(captions.web.is_empty() && captions.synthetic.is_empty());
        captions.push_weighted(CaptionKind::Rewrite, "second", 2.0);
        captions.push(CaptionKind::Rewrite, "\t");
        captions.push(CaptionKind::Synthetic, "a cat");
        assert_eq!(captions.rewrites, ["", "second", ""]);
        assert_eq!(captions.of(CaptionKind::Synthetic), ["a cat"]);
        assert_eq!(
            captions.filled(CaptionKind::Rewrite).collect::<Vec<_>>(),
            ["second"]
        );
        assert!(!captions.is_empty());
    }

    #[test]
    fn blank_captions_are_never_drawn() {
        let mut captions = Captions::default();
        for text in ["", "a", " ", "b"] {
            captions.push(CaptionKind::Rewrite, text);
        }
        let mix = CaptionMix {
            web: 0.0,
            rewrites: 1.0,
            synthetic: 1.0,
        };
        let share = shares(mix, &captions);
        assert!((share("a") - 0.5).abs() < 0.04, "{}", share("a"));
        assert!((share("b") - 0.5).abs() < 0.04, "{}", share("b"));
    }

    #[test]
    fn captions_are_found_by_their_field() {
        let mut captions = Captions::default();
        captions.push(CaptionKind::Synthetic, "unnamed");
        captions.add(CaptionKind::Synthetic, "s".into(), 1.0, "short");
        captions.add(CaptionKind::Synthetic, " ".into(), 1.0, "long");
        captions.add(CaptionKind::Web, "w".into(), 1.0, "raw");
        captions.add(CaptionKind::Synthetic, "t".into(), 1.0, "short");
        let found = |field| captions.of_field(field).collect::<Vec<_>>();
        assert_eq!(found("short"), ["s", "t"]);
        assert_eq!(found("raw"), ["w"]);
        assert!(found("long").is_empty());
    }

    #[test]
    fn a_mix_draws_kinds_by_weight_and_falls_back_to_those_present() {
        let mix = CaptionMix {
            web: 1.0,
            rewrites: 2.0,
            synthetic: 1.0,
        };
        let captions = captions();
        let share = shares(mix, &captions);
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

    #[test]
    fn captions_of_a_kind_are_drawn_by_weight() {
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, "a");
        captions.push_weighted(CaptionKind::Web, "b", 2.0);
        captions.push_weighted(CaptionKind::Web, " ", 9.0);
        captions.push_weighted(CaptionKind::Web, "c", 0.0);
        captions.push(CaptionKind::Web, "d");
        assert_eq!(captions.weights[0], [1.0, 2.0, 0.0]);
        let share = shares(CaptionMix::default(), &captions);
        for (caption, expected) in [("a", 0.25), ("b", 0.5), ("c", 0.0), ("d", 0.25)] {
            let share = share(caption);
            assert!((share - expected).abs() < 0.04, "{caption}: {share}");
        }
    }

    #[test]
    fn a_kind_whose_captions_weigh_nothing_counts_as_absent() {
        let mut captions = captions();
        captions.weights[0] = vec![0.0];
        let both = CaptionMix {
            synthetic: 1.0,
            ..CaptionMix::default()
        };
        assert_eq!(shares(both, &captions)("w"), 0.0);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(CaptionMix::default().draw(&captions, &mut rng), None);
    }

    #[test]
    fn without_weights_a_draw_takes_a_kind_and_then_a_caption_uniformly() {
        let mix = CaptionMix {
            web: 1.0,
            synthetic: 3.0,
            ..CaptionMix::default()
        };
        let captions = captions();
        let mut drawing = ChaCha8Rng::seed_from_u64(7);
        let mut expecting = drawing.clone();
        for _ in 0..100 {
            let of_kind = match expecting.random::<f64>() * 4.0 < 1.0 {
                true => &captions.web,
                false => &captions.synthetic,
            };
            let expected = &of_kind[expecting.random_range(0..of_kind.len())];
            assert_eq!(mix.draw(&captions, &mut drawing), Some(expected.as_str()));
        }
    }
}
