//! Logits, whole and in pieces, in f32 and bf16.

use super::{Fixture, TOLERANCE, VARIANTS, load, path};
use crate::fixture::{assert_close, distance, host};
use burn::backend::Flex;
use burn::prelude::*;
use burn::tensor::TensorData;
use burn_ndarray::NdArray;
use clip_burn::clip::Precision;
use clip_burn::llm::{Llama, LoadOptions, Pretrained};

/// The logits of whole sequences, put together from pieces of the given lengths with a cache.
fn in_pieces<B: Backend>(model: &Llama<B>, ids: Tensor<B, 2, Int>, piece: usize) -> Vec<f32> {
    let len = ids.dims()[1];
    let mut cache = model.cache(len + 3);
    let mut parts = Vec::new();
    while cache.len() < len {
        let at = cache.len();
        let part = ids.clone().narrow(1, at, piece.min(len - at));
        parts.push(model.head(model.model.extend(part, &mut cache)));
    }
    host(Tensor::cat(parts, 1))
}

fn logits_match<B: Backend>(backend: &str) {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let model = load::<B>(name).model;
        let expected = fixture.values("logits");
        let whole = host(model.forward(fixture.ids()));
        assert_close(&format!("{name} {backend}"), &whole, &expected, TOLERANCE);
        println!(
            "{name} on {backend}: logits differ by {:.1e}",
            distance(&whole, &expected)
        );
        for piece in [1, 7] {
            let what = format!("{name} {backend}, {piece} at a time");
            let got = in_pieces(&model, fixture.ids(), piece);
            assert_close(&what, &got, &expected, TOLERANCE);
        }
    }
}

#[test]
fn logits_match_transformers_with_and_without_cache_on_flex() {
    logits_match::<Flex>("flex");
}

#[test]
fn logits_match_transformers_with_and_without_cache_on_ndarray() {
    logits_match::<NdArray>("ndarray");
}

#[cfg(feature = "tch")]
#[test]
fn logits_match_transformers_with_and_without_cache_on_tch() {
    clip_burn::backend::register_kernels();
    logits_match::<burn_tch::LibTorch>("tch");
}

#[cfg(feature = "wgpu")]
#[test]
fn logits_match_transformers_with_and_without_cache_on_wgpu() {
    clip_burn::backend::register_kernels();
    logits_match::<burn_wgpu::WebGpu>("wgpu");
}

#[test]
fn weights_in_bf16_lose_nothing_of_a_bf16_file() {
    let fixture = Fixture::read("llama3");
    let options = LoadOptions {
        precision: Precision::F32,
        weights: Precision::Bf16,
    };
    let device = Default::default();
    let model = Pretrained::<Flex>::load(&path("llama3"), &options, &device)
        .unwrap()
        .model;
    let got = host(model.forward(fixture.ids()));
    assert_close("llama3", &got, &fixture.values("logits"), TOLERANCE);
}

/// transformers in bf16 is as far from f32 as the fixture says; other orders of rounding are of that size, too.
#[test]
fn bf16_is_no_further_from_f32_than_transformers_in_bf16() {
    for name in VARIANTS {
        let fixture = Fixture::read(name);
        let (expected, theirs) = (fixture.values("logits"), fixture.values("bf16_error"));
        for weights in [Precision::Bf16, Precision::F32] {
            let options = LoadOptions {
                precision: Precision::Bf16,
                weights,
            };
            let device = Default::default();
            let model = Pretrained::<Flex>::load(&path(name), &options, &device)
                .unwrap()
                .model;
            let got = host(model.forward(fixture.ids()));
            let errors = got.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            let mean = errors.sum::<f32>() / got.len() as f32;
            println!(
                "{name}, bf16: mean error {mean:.4}, transformers {:.4}",
                theirs[0]
            );
            assert!(
                mean < 1.25 * theirs[0],
                "{name}: {mean} against {}",
                theirs[0]
            );
        }
    }
}

#[test]
fn a_visible_future_changes_the_past_and_padding_does_not() {
    let device = Default::default();
    let decoder = load::<Flex>("llama3").model.model;
    let ids = Fixture::read("llama3").ids::<Flex>();
    let [batch, seq] = ids.dims();
    let bidirectional = host(decoder.forward(ids.clone(), None));
    let all = Tensor::<Flex, 3, Int>::ones([batch, seq, seq], &device).bool();
    let masked = host(decoder.forward(ids.clone(), Some(decoder.bias(all))));
    assert_close("all visible", &masked, &bidirectional, 1e-5);
    let causal = host(decoder.forward(ids.clone(), decoder.causal_bias(0, seq, &device)));
    assert!(
        causal[..32]
            .iter()
            .zip(&bidirectional)
            .any(|(a, b)| (a - b).abs() > 0.1)
    );

    // Keys from position 30 on are padding: the rest is as if they were not there.
    let keys: Vec<bool> = (0..seq * seq).map(|i| i % seq < 30).collect();
    let keys = Tensor::from_data(TensorData::new(keys, [1, seq, seq]), &device);
    let padded = decoder
        .forward(ids.clone(), Some(decoder.bias(keys)))
        .narrow(1, 0, 30);
    let short = decoder.forward(ids.narrow(1, 0, 30), None);
    assert_close("padding", &host(padded), &host(short), 1e-5);
}
