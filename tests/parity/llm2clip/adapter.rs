//! The text adapter and the loss of stage 1, with all gradients.

use super::{Fixture, TOLERANCE, assert_relative};
use crate::fixture::host;
use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::checkpoint::{ParamPath, apply};
use clip_burn::clip::nn::init::Init;
use clip_burn::llm2clip::AdapterConfig;
use clip_burn::llm2clip::loss::hard_negatives;
use std::path::Path;

/// Our path → the release's.
fn released(path: &str) -> String {
    let (first, rest) = path.split_once('.').unwrap();
    match first {
        "norm" => format!("text.text_adaptor.4.{rest}"),
        "proj" => format!("text.text_adaptor.5.{rest}"),
        _ => {
            let (number, rest) = rest.split_once('.').unwrap();
            let rest = rest.replace("up.", "fn.0.").replace("down.", "fn.3.");
            format!("text.text_adaptor.{number}.{rest}")
        }
    }
}

fn adapter_matches<B: AutodiffBackend>() {
    struct Compare<'a, B: AutodiffBackend>(ParamPath, &'a B::Gradients, &'a Fixture, usize);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Compare<'_, B> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let name = format!("grad.{}", released(&self.0.join()));
            let got = host(param.val().grad(self.1).unwrap());
            assert_relative(&name, &got, &self.2.values(&name), TOLERANCE);
            self.3 += 1;
        }
    }
    let (fixture, device) = (Fixture::read("adapter"), Default::default());
    let config = AdapterConfig::new(6, 5);
    let names: Vec<String> = {
        let skeleton = config.init::<Flex>(&mut Init::Zeros, &Default::default());
        let dict = clip_burn::clip::checkpoint::collect::<Flex, _>(&skeleton);
        dict.names().map(String::from).collect()
    };
    let weights = names.iter().map(|name| {
        (
            name.clone(),
            fixture.0.get(&released(name)).unwrap().clone(),
        )
    });
    let skeleton = config.init::<B>(&mut Init::Zeros, &device);
    let model = apply(skeleton, weights.collect(), Path::new("adapter"), &device).unwrap();
    let vectors = fixture.tensor::<B, 2>("vectors").require_grad();
    let out = model.forward(vectors.clone());
    assert_relative("out", &host(out.clone()), &fixture.values("out"), TOLERANCE);
    let grads = (out * fixture.tensor("weights")).sum().backward();
    let got = host(vectors.grad(&grads).unwrap());
    assert_relative(
        "grad.vectors",
        &got,
        &fixture.values("grad.vectors"),
        TOLERANCE,
    );
    let mut compare = Compare::<B>(ParamPath::default(), &grads, &fixture, 0);
    model.visit(&mut compare);
    assert_eq!(compare.3, 28);
}

fn loss_matches<B: AutodiffBackend>() {
    let fixture = Fixture::read("loss");
    let names = ["query", "positive", "negative"];
    let rows = names.map(|name| fixture.tensor::<B, 2>(name).require_grad());
    let [query, positive, negative] = rows.clone();
    let loss = hard_negatives(0..query.dims()[0], query, positive, negative, 50.0);
    assert_relative(
        "loss",
        &host(loss.clone()),
        &fixture.values("loss"),
        TOLERANCE,
    );
    let grads = loss.backward();
    for (name, rows) in names.iter().zip(rows) {
        let name = format!("grad.{name}");
        assert_relative(
            &name,
            &host(rows.grad(&grads).unwrap()),
            &fixture.values(&name),
            TOLERANCE,
        );
    }
}

#[test]
fn the_adapter_and_its_gradients_match_on_flex() {
    adapter_matches::<Autodiff<Flex>>();
}

#[test]
fn the_adapter_and_its_gradients_match_on_ndarray() {
    adapter_matches::<Autodiff<NdArray>>();
}

#[test]
fn simcse_with_hard_negatives_and_its_gradients_match_on_flex() {
    loss_matches::<Autodiff<Flex>>();
}

#[test]
fn simcse_with_hard_negatives_and_its_gradients_match_on_ndarray() {
    loss_matches::<Autodiff<NdArray>>();
}
