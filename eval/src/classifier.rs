//! The zero-shot classifier: one embedding per class, an average over its prompts.

use burn::tensor::backend::Backend;

use crate::encoder::TextEncoder;
use crate::error::Result;
use crate::extract::{Extraction, text_features};
use crate::features::{Features, normalize};
use crate::prompts::Prompts;

/// Embeds all prompts of all classes; per class: normalize each, average, normalize again
/// (Radford et al., 2021, section 3.1.4). In f32, whatever the encoder runs in.
pub fn zero_shot_classifier<B: Backend, E: TextEncoder<B>>(
    encoder: &E,
    prompts: &Prompts,
    options: &Extraction,
) -> Result<Features> {
    let mut texts = Vec::new();
    let mut ends = Vec::with_capacity(prompts.classes.len());
    for class in &prompts.classes {
        texts.extend(prompts.templates.prompts(class)?);
        ends.push(texts.len());
    }
    ensemble(&text_features(encoder, &texts, options)?, &ends)
}

/// Averages prompt embeddings into one unit row per class: rows `ends[c - 1]..ends[c]` belong to class `c`.
pub fn ensemble(prompts: &Features, ends: &[usize]) -> Result<Features> {
    let dim = prompts.dim();
    let mut values = Vec::with_capacity(ends.len() * dim);
    let mut row = vec![0.0; dim];
    let mut start = 0;
    for &end in ends {
        let mut mean = vec![0.0; dim];
        for prompt in start..end {
            prompts.copy_unit_row(prompt, &mut row);
            mean.iter_mut()
                .zip(&row)
                .for_each(|(m, v)| *m += v / (end - start) as f32);
        }
        normalize(&mut mean);
        values.extend(mean);
        start = end;
    }
    Features::new(values, dim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_normalized_averaged_and_normalized() {
        // Class 0: directions (1, 0) and (0, 1), of very different length. Class 1: one prompt.
        let prompts = Features::new(vec![10.0, 0.0, 0.0, 0.1, 3.0, 4.0], 2).unwrap();
        let classifier = ensemble(&prompts, &[2, 3]).unwrap().to_vec();
        let expected = [0.5f32.sqrt(), 0.5f32.sqrt(), 0.6, 0.8];
        assert!(
            classifier
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6),
            "{classifier:?}"
        );
    }
}
