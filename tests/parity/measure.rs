//! How far a backend is from the reference, as numbers.

use crate::fixture::{Fixture, distance, host};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip_burn::clip::checkpoint::{HostTensor, StateDict, collect};
use clip_burn::clip::{Clip, Precision, loss};
use clip_burn::train::optimizer::{AdamWConfig, Gradients, GroupedAdamW};
use clip_burn::train::parameters::groups::{Groups, GroupsConfig};
use clip_burn::train::parameters::parameters;
use clip_burn::train::parameters::stable_ids::with_stable_ids;
use std::collections::BTreeMap;

/// One quantity of a model beside the reference's.
pub struct Difference {
    pub quantity: String,
    /// Largest absolute difference over the largest absolute value of the reference's tensor. Single entries near
    /// zero carry only rounding. A loss is compared absolutely.
    pub largest: f32,
}

/// Features of a batch in inference.
pub fn features<B: Backend>(
    fixture: &Fixture,
    precision: Precision,
    device: &B::Device,
) -> Vec<Difference> {
    let model = fixture.model::<B>(precision, device);
    let image = host(model.encode_image(fixture.image(device)));
    let text = host(model.encode_text(fixture.ids(device)));
    [("image_features", image), ("text_features", text)]
        .map(|(name, got)| Difference {
            quantity: name.into(),
            largest: relative(&got, &fixture.values(name), None),
        })
        .into()
}

/// One batch, three steps of AdamW with open_clip's groups: the losses, the gradient of the first step and the weights
/// after the last.
pub fn training<B: AutodiffBackend>(
    fixture: &Fixture,
    precision: Precision,
    device: &Device<B::InnerBackend>,
) -> Vec<Difference> {
    let model = fixture.model::<B>(precision, device);
    let mut model = with_stable_ids(model).expect("every path once");
    let groups = Groups::new(&GroupsConfig::default(), parameters(&model)).expect("default groups");
    let config = AdamWConfig {
        weight_decay: 0.2,
        eps: 1e-4,
        ..AdamWConfig::default()
    };
    let mut optimizer = GroupedAdamW::new(config, &groups);
    let mut differences = Vec::new();
    for step in 0..3 {
        let out = model.forward(fixture.image(device), fixture.ids(device));
        let (image, text, scale) = (out.image_features, out.text_features, out.logit_scale);
        let loss = match out.logit_bias {
            Some(bias) => loss::sigmoid(image, text, scale, bias),
            None => loss::contrastive(image, text, scale),
        };
        let name = format!("loss.{step}");
        differences.push(Difference {
            largest: distance(&host(loss.clone().inner()), &fixture.values(&name)),
            quantity: name,
        });
        let mut grads = Gradients::take(&mut loss.backward(), &model);
        if step == 0 {
            let grads = gradients(&model, &grads);
            differences.extend(per_tensor("gradient", grads, fixture, "grad"));
        }
        model = optimizer.step(fixture.lr(), model, &mut grads);
    }
    let weights = collect::<B, _>(&model);
    differences.extend(per_tensor("weights", weights, fixture, "after"));
    differences
}

/// The worst of the differences whose quantities have the same first word.
pub fn worst(differences: Vec<Difference>) -> Vec<Difference> {
    let mut worst = BTreeMap::<String, f32>::new();
    for difference in differences {
        let kind = difference.quantity.split([' ', '.']).next().unwrap_or("");
        let largest = worst.entry(kind.to_string()).or_default();
        *largest = largest.max(difference.largest);
    }
    worst
        .into_iter()
        .map(|(quantity, largest)| Difference { quantity, largest })
        .collect()
}

pub fn per_tensor(what: &str, got: StateDict, fixture: &Fixture, prefix: &str) -> Vec<Difference> {
    let expected = fixture.expected(prefix);
    let names = |dict: &StateDict| dict.names().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(names(&got), names(&expected.tensors), "{what}");
    got.iter()
        .zip(expected.tensors.iter())
        .map(|((name, got), (_, wanted))| Difference {
            quantity: format!("{what} {name}"),
            largest: relative(
                &expected.sampled(got.values()),
                &wanted.values(),
                expected.largest.get(name).copied(),
            ),
        })
        .collect()
}

/// Largest difference over the largest value of the reference.
fn relative(got: &[f32], expected: &[f32], largest: Option<f32>) -> f32 {
    let scale = largest.unwrap_or_else(|| expected.iter().fold(0.0, |max, x| max.max(x.abs())));
    match distance(got, expected) {
        0.0 => 0.0,
        difference => difference / scale,
    }
}

pub fn gradients<B: AutodiffBackend>(
    model: &Clip<B>,
    of: &Gradients<B::InnerBackend>,
) -> StateDict {
    let mut found = StateDict::default();
    for parameter in parameters(model) {
        if let Some(gradient) = of.get(parameter.id) {
            let values = host(gradient.clone());
            found.insert(
                parameter.path,
                HostTensor::from_values(values, parameter.shape),
            );
        }
    }
    found
}
