//! Zero-shot retrieval: images by caption and captions by image.

use burn::tensor::backend::Backend;
use indicatif::ProgressBar;
use serde_json::json;

use crate::datasets::retrieval::RetrievalData;
use crate::encoder::DualEncoder;
use crate::error::{EvalError, Result};
use crate::extract::{Extraction, image_features, progress_bar, text_features};
use crate::features::Features;
use crate::metrics::retrieval::{
    Matches, Rank, Ranks, Ties, mean_rank, median_rank, rank, recall_at, ties, top_k,
};
use crate::results::{Details, Hit, Metrics, Query};
use crate::tasks::Outcome;

/// Example queries in a report: so many spread over the set, and as many of the worst.
const EXAMPLES: usize = 8;
/// Images shown per query.
const HITS: usize = 5;

/// What to make of the ranks. A bare list of k breaks ties by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scoring {
    /// Ranks within which a hit counts, at least 1 each.
    pub recall_k: Vec<usize>,
    /// How exact ties count.
    pub ties: Ties,
}

impl From<&[usize]> for Scoring {
    fn from(recall_k: &[usize]) -> Self {
        Self {
            recall_k: recall_k.to_vec(),
            ties: Ties::default(),
        }
    }
}

impl<const N: usize> From<&[usize; N]> for Scoring {
    fn from(recall_k: &[usize; N]) -> Self {
        Self::from(recall_k.as_slice())
    }
}

impl Scoring {
    pub(super) fn check(&self) -> Result<()> {
        if self.recall_k.is_empty() || self.recall_k.contains(&0) {
            return Err(EvalError::Option {
                option: "recall_k",
                reason: "give numbers from 1 on, such as 1,5,10".into(),
            });
        }
        Ok(())
    }
}

/// Embeds the data set and ranks both ways.
pub fn retrieval<B: Backend, E: DualEncoder<B>>(
    encoder: &E,
    data: &RetrievalData,
    scoring: impl Into<Scoring>,
    options: &Extraction,
    device: &B::Device,
) -> Result<Outcome> {
    let scoring = scoring.into();
    scoring.check()?; // before the hours of embedding
    let images = image_features(encoder, &data.images, options, device)?;
    let (data, _) = data.keep_images(&images.kept)?;
    let texts = text_features(encoder, &data.texts, options)?;
    let mut outcome = retrieval_of_features(&data, &images.features, &texts, scoring, options)?;
    outcome.details.bad_images = images.bad;
    if let Some(cut @ 1..) = encoder.truncated(&data.texts) {
        let note = format!(
            "{cut} of {} captions are longer than the context and were cut",
            data.texts.len()
        );
        outcome.details.notes.push(note);
    }
    Ok(outcome)
}

/// Ranks stored embeddings. Rows that know their images or texts are found by them, see [`Features::for_images`]; else
/// row `i` of either table is item `i` of the data set.
pub fn retrieval_of_features(
    data: &RetrievalData,
    images: &Features,
    texts: &Features,
    scoring: impl Into<Scoring>,
    options: &Extraction,
) -> Result<Outcome> {
    let scoring = scoring.into();
    let (images, texts) = (
        images.for_images(&data.images)?,
        texts.for_texts(&data.texts)?,
    );
    let (images, texts) = (&*images, &*texts);
    let how = match scoring.ties {
        Ties::Stable => "the lower index wins",
        Ties::Optimistic => "the right one wins",
        Ties::Pessimistic => "the wrong one wins",
    };
    let (metrics, ranks) = score(texts, images, &data.matches, scoring, options)?;
    let mut notes = data.notes.clone();
    for (ranks, query, item) in [
        (&ranks.texts, "captions", "image"),
        (&ranks.images, "images", "caption"),
    ] {
        let ties = ties(ranks);
        if ties > 0 {
            notes.push(format!(
                "{ties} {query} score a wrong {item} exactly as the right one; {how}"
            ));
        }
    }
    let details = Details {
        images: images.len(),
        texts: texts.len(),
        notes,
        split: data.split.clone(),
        queries: examples(data, images, texts, &ranks.texts),
        ..Details::default()
    };
    Ok(Outcome {
        task: "zeroshot_retrieval",
        metrics,
        details,
    })
}

/// Recall at each k, mean and median rank, both ways, and the ranks themselves.
pub fn score(
    texts: &Features,
    images: &Features,
    matches: &Matches,
    scoring: impl Into<Scoring>,
    options: &Extraction,
) -> Result<(Metrics, Ranks)> {
    let scoring = scoring.into();
    scoring.check()?;
    let pairs = texts.len().saturating_mul(images.len());
    let bar: ProgressBar = progress_bar(options, pairs, "scores");
    let ranks = rank(texts, images, matches, &|scored| bar.inc(scored))?;
    bar.finish_and_clear();
    let mut metrics = Metrics::new();
    let directions = [
        ("image_retrieval", &ranks.texts),
        ("text_retrieval", &ranks.images),
    ];
    for &k in &scoring.recall_k {
        for (direction, ranks) in directions {
            metrics.insert(
                format!("{direction}_recall@{k}"),
                json!(recall_at(ranks, k, scoring.ties)),
            );
        }
    }
    for (direction, ranks) in directions {
        metrics.insert(
            format!("{direction}_mean_rank"),
            json!(mean_rank(ranks, scoring.ties)),
        );
        metrics.insert(
            format!("{direction}_median_rank"),
            json!(median_rank(ranks, scoring.ties)),
        );
    }
    Ok((metrics, ranks))
}

fn examples(
    data: &RetrievalData,
    images: &Features,
    texts: &Features,
    ranks: &[Option<Rank>],
) -> Vec<Query> {
    let position = |text: usize| ranks[text].map_or(0, |rank| rank.position(Ties::Stable));
    let step = ranks.len().div_ceil(EXAMPLES).max(1);
    let mut chosen: Vec<usize> = (0..ranks.len()).step_by(step).collect();
    let mut worst: Vec<usize> = (0..ranks.len())
        .filter(|text| !chosen.contains(text))
        .collect();
    worst.sort_by_key(|&text| std::cmp::Reverse(position(text)));
    worst.truncate(EXAMPLES);
    chosen.extend(worst.into_iter().filter(|&text| position(text) > 0));
    let found = top_k(&texts.select(&chosen), images, HITS);
    let query = |(text, found): (usize, Vec<(usize, f32)>)| {
        let right = data.matches.images_of(text);
        let hit = |(image, score): (usize, f32)| Hit {
            image: data.images[image].absolute(),
            score,
            right: right.contains(&(image as u32)),
        };
        Query {
            text: data.texts[text].clone(),
            rank: position(text) + 1,
            hits: found.into_iter().map(hit).collect(),
            right: right
                .first()
                .map(|&image| data.images[image as usize].absolute()),
        }
    };
    chosen.into_iter().zip(found).map(query).collect()
}
