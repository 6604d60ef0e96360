//! Gradients as a training run takes them: whole or cut into micro-batches, blocks kept or replayed. All are those of
//! the reference.

use crate::fixture::{Fixture, assert_close};
use crate::measure::{gradients, per_tensor};
use crate::training::{TOLERANCE, TRAINED};
use burn::backend::{Autodiff, Flex};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::loss::by_rows;
use clip_burn::clip::{Clip, Precision};
use clip_burn::train::image_text::towers::{embed_images, embed_texts};
use clip_burn::train::parameters::stable_ids::with_stable_ids;
use clip_burn::train::trainer::collective::Single;
use clip_burn::train::trainer::step::{StepOptions, step};
use clip_burn::train::{BoxError, Embedded, Embeddings, Losses, Pass, Task};

/// Images and texts as the towers take them.
struct Batch<B: Backend> {
    image: Tensor<B, 4>,
    ids: Tensor<B, 2, Int>,
}

/// Sigmoid loss where the model has a bias, as the fixtures were made.
struct Towers;

impl<B: AutodiffBackend> Task<B> for Towers {
    type Model = Clip<B>;
    type Batch = Batch<B>;
    type Trained = ();

    fn embed(
        &self,
        model: &Clip<B>,
        batch: &Batch<B>,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError> {
        let image = embed_images(&model.visual, batch.image.clone(), None, pass)?;
        let text = embed_texts(&model.text, batch.ids.clone(), pass);
        Ok(Embedded::default().with("image", image).with("text", text))
    }

    fn loss(&self, model: &Clip<B>, mut embeddings: Embeddings<B>) -> Result<Losses<B>, BoxError> {
        let rows = embeddings.rows();
        let (image, text) = (embeddings.one("image")?, embeddings.one("text")?);
        let total = match &model.logit_bias {
            Some(bias) => by_rows::sigmoid(rows, image, text, model.scale(), bias.val()),
            None => by_rows::contrastive(rows, image, text, model.scale()),
        };
        Ok(total.into())
    }

    fn samples(&self, batch: &Batch<B>) -> usize {
        batch.image.dims()[0]
    }

    fn trained(&self, _: Clip<B::InnerBackend>) {}
}

fn every_way_gives_the_references_gradients<B: Backend>()
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let device = Default::default();
    for name in TRAINED.into_iter().chain(["resnet"]) {
        let fixture = Fixture::read(name);
        let model = fixture.model::<Autodiff<B>>(Precision::F32, &device);
        let model = with_stable_ids(model).unwrap();
        let (image, ids) = (fixture.image::<Autodiff<B>>(&device), fixture.ids(&device));
        for (parts, replay) in [(1, false), (1, true), (2, false), (2, true)] {
            let rows = image.dims()[0] / parts;
            let batches: Vec<_> = (0..parts)
                .map(|part| Batch {
                    image: image.clone().narrow(0, part * rows, rows),
                    ids: ids.clone().narrow(0, part * rows, rows),
                })
                .collect();
            let options = StepOptions {
                replay,
                seed: 1,
                ..StepOptions::default()
            };
            let made = step::<Autodiff<B>, _>(&Towers, &model, &batches, options, &Single, &device)
                .unwrap();
            let got = gradients(&model, &made.gradients);
            for difference in per_tensor("gradient", got, &fixture, "grad") {
                let quantity = difference.quantity;
                let what = format!("{name}, {parts} micro-batches, replay {replay}: {quantity}");
                assert_close(&what, &[difference.largest], &[0.0], TOLERANCE);
            }
        }
    }
}

#[test]
fn replayed_and_cached_gradients_match_pytorch_on_flex() {
    every_way_gives_the_references_gradients::<Flex>();
}

#[test]
fn replayed_and_cached_gradients_match_pytorch_on_ndarray() {
    every_way_gives_the_references_gradients::<NdArray>();
}
