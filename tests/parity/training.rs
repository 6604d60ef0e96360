use crate::fixture::{Fixture, assert_close, host};
use burn::backend::{Autodiff, Flex, NdArray};
use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip_burn::clip::checkpoint::{HostTensor, ParamPath, StateDict, collect};
use clip_burn::clip::{Clip, loss};
use clip_burn::train::groups::{Groups, GroupsConfig};
use clip_burn::train::optimizer::{AdamWConfig, GroupedAdamW};
use clip_burn::train::parameters::parameters;
use clip_burn::train::stable_ids::with_stable_ids;

/// Relative to the largest value of the tensor: single entries near zero carry only rounding.
const TOLERANCE: f32 = 1e-5;

fn assert_dicts_close(what: &str, got: &StateDict, expected: &StateDict) {
    let names = |dict: &StateDict| dict.names().map(str::to_string).collect::<Vec<_>>();
    assert_eq!(names(got), names(expected), "{what}");
    for ((name, got), (_, expected)) in got.iter().zip(expected.iter()) {
        let expected = expected.values();
        let largest = expected.iter().fold(0f32, |max, x| max.max(x.abs()));
        assert_close(
            &format!("{what} {name}"),
            &got.values(),
            &expected,
            TOLERANCE * largest,
        );
    }
}

fn gradients<B: AutodiffBackend>(model: &Clip<B>, grads: &GradientsParams) -> StateDict {
    struct Collect<'a>(ParamPath, StateDict, &'a GradientsParams);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Collect<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if let Some(grad) = self.2.get::<B::InnerBackend, D>(param.id) {
                let shape = grad.dims();
                self.1
                    .insert(self.0.join(), HostTensor::from_values(host(grad), shape));
            }
        }
    }
    let mut collect = Collect(ParamPath::default(), StateDict::default(), grads);
    Module::<B>::visit(model, &mut collect);
    collect.1
}

/// One batch, three steps of AdamW with open_clip's groups.
fn three_steps_match_pytorch<B: Backend>(name: &str)
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let device = Default::default();
    let fixture = Fixture::read(name);
    let mut model = with_stable_ids(fixture.model::<Autodiff<B>>(&device)).unwrap();
    let groups = Groups::new(&GroupsConfig::default(), parameters(&model)).unwrap();
    let config = AdamWConfig {
        weight_decay: 0.2,
        eps: 1e-4,
        ..AdamWConfig::default()
    };
    let mut optimizer = GroupedAdamW::new(config, &groups);
    for step in 0..3 {
        let out = model.forward(fixture.image(&device), fixture.ids(&device));
        let loss = loss::contrastive(out.image_features, out.text_features, out.logit_scale);
        let value = host(loss.clone().inner());
        assert_close(
            &format!("{name} loss {step}"),
            &value,
            &fixture.values(&format!("loss.{step}")),
            2e-5,
        );
        let mut grads = GradientsParams::from_grads(loss.backward(), &model);
        if step == 0 {
            assert_dicts_close(
                &format!("{name} gradient"),
                &gradients(&model, &grads),
                &fixture.weights("grad."),
            );
        }
        model = optimizer.step(1e-3, model, &mut grads);
    }
    assert_dicts_close(
        &format!("{name} weights after three steps"),
        &collect::<Autodiff<B>, _>(&model),
        &fixture.weights("after."),
    );
}

#[test]
fn gradients_and_three_adamw_steps_match_pytorch_on_flex() {
    for name in ["base", "quick_gelu", "clipa"] {
        three_steps_match_pytorch::<Flex>(name);
    }
}

#[test]
fn gradients_and_three_adamw_steps_match_pytorch_on_ndarray() {
    for name in ["base", "quick_gelu", "clipa"] {
        three_steps_match_pytorch::<NdArray>(name);
    }
}
