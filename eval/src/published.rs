//! Published scores, to be shown beside a run. Data: `assets/published.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A published score of one model on one data set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PublishedRow {
    /// Data set under CLIP_benchmark's name.
    pub dataset: String,
    /// Architecture.
    pub model: String,
    /// Weights or method.
    pub pretrained: String,
    /// Fractions by metric.
    pub metrics: BTreeMap<String, f64>,
    /// Where it was published.
    pub source: String,
}

/// The published scores that the crate knows.
#[derive(Clone, Debug, Deserialize)]
pub struct Published {
    /// Other names of data sets, among them the stems of annotation files.
    aliases: BTreeMap<String, String>,
    rows: Vec<PublishedRow>,
}

impl Published {
    /// Reads the packaged table.
    pub fn load() -> Self {
        serde_json::from_str(include_str!("../assets/published.json")).expect("packaged JSON")
    }

    /// CLIP_benchmark's name of a data set: without `wds/` or `vtab/`, aliases resolved.
    pub fn dataset_name<'a>(&'a self, dataset: &'a str) -> &'a str {
        let short = dataset.rsplit('/').next().unwrap_or(dataset);
        self.aliases.get(short).map_or(short, String::as_str)
    }

    /// Scores of a metric on a data set, highest first.
    pub fn scores(&self, dataset: &str, metric: &str) -> Vec<(&PublishedRow, f64)> {
        let dataset = self.dataset_name(dataset);
        let of_dataset = self.rows.iter().filter(|row| row.dataset == dataset);
        let mut scores: Vec<_> = of_dataset
            .filter_map(|row| row.metrics.get(metric).map(|&score| (row, score)))
            .collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1));
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_scores_are_fractions_and_found_under_every_name() {
        let published = Published::load();
        assert!(
            published
                .rows
                .iter()
                .flat_map(|row| row.metrics.values())
                .all(|v| (0.0..=1.0).contains(v))
        );
        let find = |dataset: &str, metric: &str, model: &str| {
            let scores = published.scores(dataset, metric);
            scores
                .iter()
                .find(|(r, _)| r.model == model && r.pretrained == "openai")
                .map(|s| s.1)
        };
        assert_eq!(find("imagenet", "acc1", "ViT-B-32"), Some(0.6332));
        assert_eq!(
            find("wds/flickr30k", "text_retrieval_recall@1", "ViT-L-14"),
            Some(0.852)
        );
        assert_eq!(
            find("dataset_coco", "image_retrieval_recall@10", "ViT-B-16"),
            Some(0.6899)
        );
        assert!(published.scores("unknown", "acc1").is_empty());
    }
}
