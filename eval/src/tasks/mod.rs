//! The evaluations: a model and a data set in, metrics and details out.

pub mod caption;
pub mod caption_retrieval;
pub mod choice;
pub mod retrieval;
pub mod zero_shot;

use crate::results::{Details, Metrics, RunResult};

/// What a run found, before it is given names.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Name of the task in result files.
    pub task: &'static str,
    /// Metric values.
    pub metrics: Metrics,
    /// Everything else.
    pub details: Details,
}

impl Outcome {
    /// The result of this run under the given names.
    pub fn named(self, dataset: &str, model: &str, pretrained: &str, language: &str) -> RunResult {
        RunResult {
            dataset: dataset.into(),
            model: model.into(),
            pretrained: pretrained.into(),
            task: self.task.into(),
            metrics: self.metrics,
            language: language.into(),
            classnames: None,
            templates: None,
            details: Some(self.details),
        }
    }
}
