//! Losses of language modelling with their gradients. Reference: `tests/reference/llm_encoder.py` (transformers 5.23).

use super::{Fixture, assert_relative, load};
use crate::fixture::host;
use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::checkpoint::ParamPath;
use clip_burn::llm::Visibility;
use clip_burn::llm::lm::{Predictions, cross_entropy, cross_entropy_value};

/// Of the largest entry; a whole Llama lies between the loss and the embedding table.
const TOLERANCE: f32 = 1e-5;

struct Compare<'a, B: AutodiffBackend> {
    path: ParamPath,
    grads: &'a B::Gradients,
    expected: &'a Fixture,
    prefix: String,
    compared: usize,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Compare<'_, B> {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let name = format!("{}.{}", self.prefix, self.path.join());
        let grad = host(param.val().grad(self.grads).unwrap());
        assert_relative(&name, &grad, &self.expected.values(&name), TOLERANCE);
        self.compared += 1;
    }
}

fn losses_match<B: AutodiffBackend>() {
    let fixture = Fixture::read("encoder/losses");
    let device = Default::default();
    for (name, tensors) in [("llama3", 21), ("llama3_tied", 20)] {
        for (loss, ids, visibility) in [
            ("lm", "ids", Visibility::Causal),
            ("mntp", "mntp.masked", Visibility::Bidirectional),
        ] {
            let model = load::<B>(name).model;
            let ids = fixture.ids_of::<B>(&format!("{name}.{ids}"));
            let [rows, seq] = ids.dims();
            let labels = fixture.values(&format!("{name}.{loss}.labels"));
            let label = |id: &f32| (*id >= 0.0).then_some(*id as u32);
            let labels: Vec<Option<u32>> = labels.iter().map(label).collect();
            let predictions = Predictions::new(&labels, seq);
            let context = model
                .model
                .context(visibility, &vec![seq; rows], seq, &device);
            let hidden = model.model.run(ids, &context);
            // Five rows of logits at a time.
            let memory = 5 * 4 * 96;
            let head = model.head_weight();
            let value = cross_entropy(hidden.clone(), head.clone(), &predictions, memory);
            let what = format!("{name}.{loss}.loss");
            let expected = fixture.values(&what);
            assert_relative(&what, &host(value.clone()), &expected, TOLERANCE);
            let plain = cross_entropy_value(hidden.inner(), head.inner(), &predictions, memory);
            assert_relative(&what, &host(plain), &expected, TOLERANCE);
            let grads = value.backward();
            let mut compare = Compare::<B> {
                path: ParamPath::default(),
                grads: &grads,
                expected: &fixture,
                prefix: format!("{name}.{loss}.grad"),
                compared: 0,
            };
            model.visit(&mut compare);
            assert_eq!(compare.compared, tensors);
        }
    }
}

#[test]
fn losses_and_all_gradients_match_transformers_on_flex() {
    losses_match::<Autodiff<Flex>>();
}

#[test]
fn losses_and_all_gradients_match_transformers_on_ndarray() {
    losses_match::<Autodiff<NdArray>>();
}
