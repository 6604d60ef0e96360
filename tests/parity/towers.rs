use crate::fixture::{Fixture, assert_close, host};
use crate::measure;
use burn::backend::Flex;
use burn::prelude::*;
use burn_ndarray::NdArray;
use clip_burn::clip::Precision;
use clip_burn::clip::checkpoint::{collect, to_open_clip};

/// Relative to the largest feature, which is about 30; f32 rounding of two blocks stays below this.
const TOLERANCE: f32 = 1e-5;

fn matches_open_clip<B: Backend>(name: &str) {
    let fixture = Fixture::read(name);
    for difference in measure::features::<B>(&fixture, Precision::F32, &Default::default()) {
        let what = format!("{name} {}", difference.quantity);
        assert_close(&what, &[difference.largest], &[0.0], TOLERANCE);
    }
}

macro_rules! variants {
    ($($name:ident),* $(,)?) => {
        $(
            mod $name {
                use super::*;

                #[test]
                fn matches_open_clip_on_flex() {
                    matches_open_clip::<Flex>(stringify!($name));
                }

                #[test]
                fn matches_open_clip_on_ndarray() {
                    matches_open_clip::<NdArray>(stringify!($name));
                }

                #[cfg(feature = "tch")]
                #[test]
                fn matches_open_clip_on_tch() {
                    clip_burn::backend::register_kernels();
                    matches_open_clip::<burn_tch::LibTorch>(stringify!($name));
                }

                #[cfg(feature = "wgpu")]
                #[test]
                fn matches_open_clip_on_wgpu() {
                    clip_burn::backend::register_kernels();
                    matches_open_clip::<burn_wgpu::WebGpu>(stringify!($name));
                }
            }
        )*
    };
}

variants!(
    base,
    quick_gelu,
    clipa,
    average_pool,
    sin_cos,
    layer_scale,
    class_embedding,
    qk_norm,
    non_square,
    siglip,
    siglip2,
    siglip_hf,
    eva02,
    resnet,
);

#[test]
fn every_block_matches_open_clip() {
    let device = Default::default();
    for name in ["base", "quick_gelu", "clipa"] {
        let fixture = Fixture::read(name);
        let model = fixture.model::<Flex>(Precision::F32, &device);
        let vit = model.visual.as_vit().unwrap();
        let blocks = vit
            .transformer
            .forward_all(vit.embed(fixture.image(&device)), None);
        for (i, block) in blocks.into_iter().enumerate() {
            let what = format!("vision_block.{i}");
            assert_close(
                &format!("{name} {what}"),
                &host(block),
                &fixture.values(&what),
                2e-5,
            );
        }
    }
}

#[test]
fn a_tracked_forward_equals_an_untracked_one() {
    let device = Default::default();
    for name in [
        "base",
        "quick_gelu",
        "clipa",
        "class_embedding",
        "qk_norm",
        "siglip",
        "eva02",
        "resnet",
    ] {
        let fixture = Fixture::read(name);
        let plain = fixture.model::<Flex>(Precision::F32, &device);
        let tracked = fixture.model::<burn::backend::Autodiff<Flex>>(Precision::F32, &device);
        let a = host(plain.encode_image(fixture.image(&device)));
        let b = host(tracked.encode_image(fixture.image(&device)));
        assert_close(&format!("{name} image"), &a, &b, 2e-5);
        let a = host(plain.encode_text(fixture.ids(&device)));
        let b = host(tracked.encode_text(fixture.ids(&device)));
        assert_close(&format!("{name} text"), &a, &b, 2e-5);
    }
}

#[test]
fn bf16_activations_stay_near_f32() {
    near_f32_in_bf16("base");
    near_f32_in_bf16("resnet");
}

fn near_f32_in_bf16(name: &str) {
    let device = Default::default();
    let fixture = Fixture::read(name);
    let model = fixture.model::<Flex>(Precision::Bf16, &device);
    let got = host(
        model
            .forward(fixture.image(&device), fixture.ids(&device))
            .image_features,
    );
    let exact = fixture.model::<Flex>(Precision::F32, &device);
    let expected = host(
        exact
            .forward(fixture.image(&device), fixture.ids(&device))
            .image_features,
    );
    let width = fixture.config.embed_dim;
    for (got, expected) in got.chunks(width).zip(expected.chunks(width)) {
        let cosine: f32 = got.iter().zip(expected).map(|(a, b)| a * b).sum();
        assert!(cosine > 0.999, "{name} {cosine}");
    }
}

#[test]
fn writing_gives_the_names_shapes_and_values_that_were_read() {
    let device = Default::default();
    for name in [
        "base",
        "clipa",
        "layer_scale",
        "class_embedding",
        "qk_norm",
        "sin_cos",
        "siglip",
        "siglip2",
        "eva02",
    ] {
        let fixture = Fixture::read(name);
        let config = &fixture.config;
        let ours = collect::<Flex, _>(&fixture.model::<Flex>(Precision::F32, &device));
        let written = to_open_clip(ours, config);
        let read = fixture.raw("model.");
        assert_eq!(
            written
                .iter()
                .map(|(n, t)| (n.to_string(), t.shape().to_vec()))
                .collect::<Vec<_>>(),
            read.iter()
                .map(|(n, t)| (n.to_string(), t.shape().to_vec()))
                .collect::<Vec<_>>(),
            "{name}"
        );
        for ((n, a), (_, b)) in written.iter().zip(read.iter()) {
            assert_eq!(a.values(), b.values(), "{name} {n}");
        }
    }
}

#[test]
fn a_resnet_is_written_under_open_clips_names() {
    let fixture = Fixture::read("resnet");
    let model = fixture.model::<Flex>(Precision::F32, &Default::default());
    let written = to_open_clip(collect::<Flex, _>(&model), &fixture.config);
    let mut expected = fixture.shapes();
    // PyTorch makes these counters where a file has none.
    expected.retain(|name, _| !name.ends_with("num_batches_tracked"));
    let written = written
        .iter()
        .map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec()));
    assert_eq!(
        written.collect::<std::collections::BTreeMap<_, _>>(),
        expected
    );
}
