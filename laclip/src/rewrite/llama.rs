use super::record::RunRecord;
use super::writer::{Writer, Written};
use crate::error::{Error, Result};
use burn::prelude::*;
use llm::{Limits, LoadOptions, Pretrained, Sampling};
use std::path::Path;

/// Rewrites with a Llama.
#[derive(Debug)]
pub struct LlamaWriter<B: Backend> {
    model: Pretrained<B>,
    sampling: Sampling,
    limits: Limits,
    /// Where a rewrite ends: nothing after it would be read.
    stop: [String; 2],
}

impl<B: Backend> LlamaWriter<B> {
    /// A writer for prompts of the given lengths.
    pub fn new(model: Pretrained<B>, sampling: Sampling, limits: Limits) -> Self {
        Self {
            model,
            sampling,
            limits,
            stop: ["\n".into(), "=>".into()],
        }
    }
}

impl RunRecord {
    /// What tells a model from another without reading its weights: the names and sizes of its files, and the
    /// dtypes.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn of_model(directory: &Path, options: &LoadOptions) -> Result<Self> {
        let mut files = Vec::new();
        for entry in directory.read_dir().map_err(Error::io(directory))? {
            let path = entry.map_err(Error::io(directory))?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let kinds = [".safetensors", ".pth", ".bin", ".json", ".model"];
            if path.is_file() && kinds.iter().any(|kind| name.ends_with(kind)) {
                let bytes = path.metadata().map_err(Error::io(&path))?.len();
                files.push(format!("{name} {bytes}"));
            }
        }
        files.sort();
        Ok(RunRecord::default()
            .with("llm_files", files)
            .with("precision", options.precision.to_string())
            .with("weights", options.weights.to_string()))
    }
}

impl<B: Backend> Writer for LlamaWriter<B> {
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.model.tokenizer.encode(text)?)
    }

    fn decode(&self, ids: &[u32]) -> String {
        self.model.tokenizer.decode(ids)
    }

    fn longest(&self) -> Option<usize> {
        self.model.config.longest_sequence()
    }

    fn write(&mut self, prompts: &[(String, u64)]) -> Result<Vec<Written>> {
        let completions = self
            .model
            .complete(prompts, self.sampling, self.limits, &self.stop)?;
        let written = completions.into_iter().map(|completion| Written {
            text: completion.text,
            tokens: completion.tokens,
        });
        Ok(written.collect())
    }
}
