//! Zero-shot classification (Radford et al., 2021, section 3.1).

use burn::tensor::backend::Backend;
use serde_json::json;

use crate::classifier::{ensemble, zero_shot_classifier};
use crate::datasets::{ClassificationData, Labels};
use crate::encoder::DualEncoder;
use crate::error::{EvalError, Result};
use crate::extract::{Extraction, image_features};
use crate::features::{Arranged, Features};
use crate::metrics::classification::{Predictions, mean_average_precision};
use crate::metrics::scores::for_each_row;
use crate::prompts::{ClassName, Prompts};
use crate::provenance::PromptsUsed;
use crate::results::{Confusion, Details, Metrics};
use crate::tasks::Outcome;

/// Mistakes that a report lists.
const CONFUSIONS: usize = 20;

/// Classifies all images of a data set by its prompts.
pub fn zero_shot<B: Backend, E: DualEncoder<B>>(
    encoder: &E,
    data: &ClassificationData,
    prompts: &Prompts,
    options: &Extraction,
    device: &B::Device,
) -> Result<Outcome> {
    check_classes(data, prompts.classes.len())?;
    let classifier = zero_shot_classifier(encoder, prompts, options)?;
    let images = image_features(encoder, &data.images, options, device)?;
    let labels = data.labels.select(&images.kept);
    let mut outcome = classify(&images.features, &classifier, &labels, &prompts.classes)?;
    describe(&mut outcome.details, data, prompts)?;
    outcome.details.bad_images = images.bad;
    Ok(outcome)
}

/// What the run was made from.
fn describe(details: &mut Details, data: &ClassificationData, prompts: &Prompts) -> Result<()> {
    let used = PromptsUsed::of(prompts)?;
    details.notes.splice(0..0, data.notes.iter().cloned());
    details.split = data.split.clone();
    details.texts = used.prompts;
    details.classes = prompts.classes.len();
    details.all_classes = data.all_classes;
    details.prompts = Some(used);
    Ok(())
}

/// Classifies stored embeddings. Rows that know their images or texts are found by them, see
/// [`Features::for_images`]; else row `i` of `images` is image `i` of the data set, and `texts` has a row for each prompt
/// of the first class, then of the second and so on, or one row per class.
pub fn zero_shot_of_features(
    data: &ClassificationData,
    images: &Features,
    texts: &Features,
    prompts: &Prompts,
) -> Result<Outcome> {
    check_classes(data, prompts.classes.len())?;
    let mut ends = Vec::with_capacity(prompts.classes.len());
    let mut sentences = Vec::new();
    for class in &prompts.classes {
        sentences.extend(prompts.templates.prompts(class)?);
        ends.push(sentences.len());
    }
    let images = images.for_images(&data.images)?;
    let one_per_class = texts.len() == ends.len() && sentences.len() != ends.len();
    let texts = match one_per_class {
        // Whatever its text was: a class's name, a prompt, or the mean of several. Names alone say which class it is.
        true => {
            let names: Vec<_> = prompts
                .classes
                .iter()
                .map(|c| c.main().to_string())
                .collect();
            texts.for_texts(&names).unwrap_or(Arranged::AsIs(texts))
        }
        false => texts.for_texts(&sentences)?,
    };
    let (images, texts) = (&*images, &*texts);
    let all = ends.last().copied().unwrap_or(0);
    if texts.len() == ends.len() {
        ends = (1..=ends.len()).collect();
    } else if texts.len() != all {
        let reason = format!(
            "{} text rows, expected {all} (all prompts, class after class) or {} (one per class)",
            texts.len(),
            ends.len()
        );
        return Err(EvalError::Features(reason));
    }
    images.check_finite("image")?;
    texts.check_finite("text")?;
    let classifier = ensemble(texts, &ends)?;
    let mut outcome = classify(images, &classifier, &data.labels, &prompts.classes)?;
    describe(&mut outcome.details, data, prompts)?;
    Ok(outcome)
}

/// Scores image features against the columns of a classifier, one row per class.
pub fn classify(
    images: &Features,
    classifier: &Features,
    labels: &Labels,
    classes: &[ClassName],
) -> Result<Outcome> {
    if images.dim() != classifier.dim() {
        let reason = format!(
            "images have {} dimensions, classes {}",
            images.dim(),
            classifier.dim()
        );
        return Err(EvalError::Features(reason));
    }
    if images.len() != labels.len() || labels.classes() > classifier.len() {
        let reason = format!(
            "{} image rows and {} classes for {} labels up to class {}",
            images.len(),
            classifier.len(),
            labels.len(),
            labels.classes()
        );
        return Err(EvalError::Features(reason));
    }
    let mut details = Details {
        images: images.len(),
        ..Details::default()
    };
    let metrics = match labels {
        Labels::Single(labels) => {
            let mut predictions = Predictions::new(classifier.len());
            for_each_row(images, classifier, |image, scores| {
                predictions.push(scores, labels[image])
            });
            details.confusions = confusions(&predictions, classes);
            if predictions.ties > 0 {
                details.notes.push(format!(
                    "{} images score exactly the same for the right class and another; the lower class index wins",
                    predictions.ties
                ));
            }
            single_label_metrics(&predictions, "")
        }
        Labels::Multi { classes, relevant } => {
            let mut scores = Vec::with_capacity(relevant.len());
            for_each_row(images, classifier, |_, row| scores.extend_from_slice(row));
            let map = mean_average_precision(&scores, relevant, *classes);
            [("mean_average_precision".to_owned(), json!(map))]
                .into_iter()
                .collect()
        }
    };
    Ok(Outcome {
        task: "zeroshot_classification",
        metrics,
        details,
    })
}

/// `acc1`, `acc5` and `mean_per_class_recall` under a prefix.
pub(crate) fn single_label_metrics(predictions: &Predictions, prefix: &str) -> Metrics {
    let values = [
        ("acc1", predictions.accuracy_at(1)),
        ("acc5", predictions.accuracy_at(5)),
        ("mean_per_class_recall", predictions.mean_per_class_recall()),
    ];
    values
        .into_iter()
        .map(|(name, value)| (format!("{prefix}{name}"), json!(value)))
        .collect()
}

fn check_classes(data: &ClassificationData, classes: usize) -> Result<()> {
    let needed = data.labels.classes();
    let fits = match data.labels {
        Labels::Single(_) => needed <= classes,
        Labels::Multi { .. } => needed == classes,
    };
    if fits {
        return Ok(());
    }
    Err(EvalError::too_few_names(&data.name, needed, classes))
}

fn confusions(predictions: &Predictions, classes: &[ClassName]) -> Vec<Confusion> {
    let name = |class: usize| {
        classes
            .get(class)
            .map_or_else(|| class.to_string(), |c| c.main().to_owned())
    };
    let of = |class: usize| {
        predictions
            .labels
            .iter()
            .filter(|&&label| label == class)
            .count()
    };
    let pairs = predictions.confusions(CONFUSIONS).into_iter();
    pairs
        .map(|(class, predicted, images)| Confusion {
            class: name(class),
            predicted: name(predicted),
            images,
            of: of(class),
        })
        .collect()
}
