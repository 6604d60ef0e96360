//! Caption-to-caption retrieval: of two captions of an image, does one find the other? No image is looked at.

use burn::tensor::backend::Backend;
use serde_json::json;

use crate::datasets::retrieval::RetrievalData;
use crate::encoder::TextEncoder;
use crate::error::{EvalError, Result};
use crate::extract::{Extraction, text_features};
use crate::metrics::retrieval::{
    Matches, Rank, mean_rank, median_rank, rank, recall_at, ties as tied,
};
use crate::results::{Details, Metrics};
use crate::tasks::Outcome;
use crate::tasks::retrieval::Scoring;

/// Embeds the first two captions of every image and looks for the second ones by the first ones, as LLM2CLIP's caption retrieval
/// accuracy does (CRA; Huang et al., 2024): the protocol of the paper is known no closer. Images with one caption take no part.
///
/// # Errors
///
/// When no image has two captions, or a caption cannot be embedded.
pub fn caption_retrieval<B: Backend, E: TextEncoder<B>>(
    encoder: &E,
    data: &RetrievalData,
    scoring: impl Into<Scoring>,
    options: &Extraction,
) -> Result<Outcome> {
    let scoring = scoring.into();
    scoring.check()?;
    let pairs = caption_pairs(data);
    if pairs.is_empty() {
        return Err(EvalError::dataset(
            &data.name,
            "no image has two captions, and one is to find the other",
        ));
    }
    let ranks = caption_ranks(encoder, &pairs, options)?;
    let mut metrics = Metrics::new();
    for &k in &scoring.recall_k {
        let recall = recall_at(&ranks, k, scoring.ties);
        metrics.insert(format!("caption_retrieval_recall@{k}"), json!(recall));
    }
    let (mean, median) = (
        mean_rank(&ranks, scoring.ties),
        median_rank(&ranks, scoring.ties),
    );
    metrics.insert("caption_retrieval_mean_rank".into(), json!(mean));
    metrics.insert("caption_retrieval_median_rank".into(), json!(median));
    let mut notes = data.notes.clone();
    let mut note = |count: usize, what: &str| {
        if count > 0 {
            notes.push(format!("{count} {what}"));
        }
    };
    let alone = data.images.len() - pairs.len();
    note(
        alone,
        "images have fewer than two captions and are left out",
    );
    note(
        tied(&ranks),
        "captions score a wrong caption exactly as the right one",
    );
    let same = pairs.iter().filter(|[first, second]| first == second);
    note(same.count(), "images have the same caption twice");
    let texts = pairs.concat();
    note(
        encoder.truncated(&texts).unwrap_or(0),
        "captions are longer than the context and were cut",
    );
    let details = Details {
        texts: texts.len(),
        split: data.split.clone(),
        notes,
        ..Details::default()
    };
    Ok(Outcome {
        task: "caption_retrieval",
        metrics,
        details,
    })
}

/// The first two captions of each image that has them.
pub fn caption_pairs(data: &RetrievalData) -> Vec<[String; 2]> {
    let pair = |image| match data.matches.texts_of(image) {
        [first, second, ..] => Some([first, second].map(|text| data.texts[*text as usize].clone())),
        _ => None,
    };
    (0..data.images.len()).filter_map(pair).collect()
}

/// Rank of the second caption of each pair for the first one, among all second captions.
///
/// # Errors
///
/// When a caption cannot be embedded.
pub fn caption_ranks<B: Backend, E: TextEncoder<B>>(
    encoder: &E,
    pairs: &[[String; 2]],
    options: &Extraction,
) -> Result<Vec<Option<Rank>>> {
    let side = |side: usize| {
        let texts: Vec<String> = pairs.iter().map(|pair| pair[side].clone()).collect();
        text_features(encoder, &texts, options)
    };
    let (first, second) = (side(0)?, side(1)?);
    let matches = (0..pairs.len() as u32).map(|i| (i, i)).collect();
    let matches = Matches::new(pairs.len(), pairs.len(), matches)?;
    Ok(rank(&first, &second, &matches, &|_| {})?.texts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::ImageRef;
    use burn::backend::Flex;
    use burn::tensor::{Tensor, TensorData};

    /// Letters and digits of a text as coordinates: two texts are the nearer the more letters they share.
    struct Letters;

    impl TextEncoder<Flex> for Letters {
        fn embed_dim(&self) -> usize {
            26
        }

        fn text_embeddings(&self, texts: &[String]) -> Result<Tensor<Flex, 2>> {
            let count = |text: &String, letter| text.bytes().filter(|b| *b == letter).count();
            let mut values = Vec::new();
            for text in texts {
                values.extend((b'a'..=b'z').map(|letter| count(text, letter) as f32));
            }
            let data = TensorData::new(values, [texts.len(), 26]);
            Ok(Tensor::from_data(data, &Default::default()))
        }
    }

    fn set(captions: &[&[&str]]) -> RetrievalData {
        let texts: Vec<String> = captions
            .concat()
            .iter()
            .map(|text| text.to_string())
            .collect();
        let owners = captions.iter().enumerate();
        let owners = owners.flat_map(|(image, texts)| vec![image as u32; texts.len()]);
        let pairs = (0..).zip(owners).collect();
        RetrievalData {
            name: "letters".into(),
            images: vec![ImageRef::File("x".into()); captions.len()],
            matches: Matches::new(texts.len(), captions.len(), pairs).unwrap(),
            texts,
            notes: Vec::new(),
            split: String::new(),
        }
    }

    #[test]
    fn the_second_caption_of_an_image_is_looked_for_by_its_first() {
        // "aab" is nearest to "ab"; "ccd" to "cd", and so on; of the last image the first caption is nearest to "cd".
        let data = set(&[
            &["aab", "ab", "zz"],
            &["ccd", "cd"],
            &["alone"],
            &["ccdd", "xyz", "ccdd"],
        ]);
        let found = caption_retrieval(&Letters, &data, &[1, 3], &Extraction::default()).unwrap();
        let metric = |name: &str| found.metrics[name].as_f64().unwrap();
        assert_eq!(metric("caption_retrieval_recall@1"), 2.0 / 3.0);
        assert_eq!(metric("caption_retrieval_recall@3"), 1.0);
        assert_eq!(found.details.texts, 6);
        assert!(
            found.details.notes[0].starts_with("1 images have fewer than two"),
            "{:?}",
            found.details.notes
        );
    }

    #[test]
    fn a_set_of_single_captions_is_refused() {
        let data = set(&[&["a"], &["b"]]);
        let options = Extraction::default();
        let error = caption_retrieval(&Letters, &data, &[1], &options).unwrap_err();
        assert!(
            error.to_string().contains("no image has two captions"),
            "{error}"
        );
    }
}
