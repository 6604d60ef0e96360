//! Choosing captions and images within groups.

use burn::tensor::backend::Backend;
use serde_json::json;

use crate::datasets::choice::ChoiceData;
use crate::encoder::DualEncoder;
use crate::error::Result;
use crate::extract::{Extraction, image_features, text_features};
use crate::features::Features;
use crate::metrics::choice::{Choice, judge};
use crate::results::Details;
use crate::tasks::Outcome;

/// Embeds all groups and counts the right choices. An unreadable image takes its whole group out.
pub fn choice<B: Backend, E: DualEncoder<B>>(
    encoder: &E,
    data: &ChoiceData,
    options: &Extraction,
    device: &B::Device,
) -> Result<Outcome> {
    let images = image_features(encoder, &data.images, options, device)?;
    let texts = text_features(encoder, &data.texts, options)?;
    let mut row_of = vec![None; data.images.len()];
    images
        .kept
        .iter()
        .enumerate()
        .for_each(|(row, &image)| row_of[image] = Some(row));
    let per_text = data.texts_per_group;
    let mut choices = Vec::new();
    for (group, rows) in row_of
        .chunks_exact(data.images_per_group.max(1))
        .enumerate()
    {
        if let Some(rows) = rows.iter().copied().collect::<Option<Vec<usize>>>() {
            let text_rows: Vec<usize> = (group * per_text..(group + 1) * per_text).collect();
            let scores = cosines(&images.features, &rows, &texts, &text_rows);
            choices.push(judge(&scores, rows.len(), per_text));
        }
    }
    let share = |is: fn(&Choice) -> bool| {
        let right = choices.iter().filter(|c| is(c)).count();
        json!((!choices.is_empty()).then(|| right as f64 / choices.len() as f64))
    };
    let metrics = [
        ("image_acc".to_owned(), share(|c| c.image)),
        ("text_acc".to_owned(), share(|c| c.text)),
        ("acc".to_owned(), share(|c| c.image && c.text)),
    ];
    let mut details = Details {
        images: images.features.len(),
        texts: texts.len(),
        bad_images: images.bad,
        ..Details::default()
    };
    let tied = choices.iter().filter(|c| c.tied).count();
    if tied > 0 {
        details.notes.push(format!(
            "{tied} of {} groups have an exact tie; the first answer wins",
            choices.len()
        ));
    }
    if data.images_per_group == 1 {
        details
            .notes
            .push("with one image per group only text_acc says anything".into());
    }
    Ok(Outcome {
        task: "image_caption_selection",
        metrics: metrics.into_iter().collect(),
        details,
    })
}

/// Row-major `[images, texts]`. Groups are tiny: a plain product is enough.
fn cosines(
    images: &Features,
    image_rows: &[usize],
    texts: &Features,
    text_rows: &[usize],
) -> Vec<f32> {
    let unit = |features: &Features, row: usize| {
        let mut values = vec![0.0; features.dim()];
        features.copy_unit_row(row, &mut values);
        values
    };
    let texts: Vec<_> = text_rows.iter().map(|&row| unit(texts, row)).collect();
    let mut scores = Vec::with_capacity(image_rows.len() * texts.len());
    for &row in image_rows {
        let image = unit(images, row);
        scores.extend(
            texts
                .iter()
                .map(|text| image.iter().zip(text).map(|(a, b)| a * b).sum::<f32>()),
        );
    }
    scores
}
