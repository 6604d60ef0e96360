use crate::fixture::{Fixture, assert_close};
use crate::measure;
use burn::backend::{Autodiff, Flex};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use clip_burn::clip::Precision;

/// Of gradients and weights, relative to the largest value of the tensor: single entries near zero carry only rounding.
pub const TOLERANCE: f32 = 1e-5;
/// The fixtures with gradients.
pub const TRAINED: [&str; 6] = [
    "base",
    "quick_gelu",
    "clipa",
    "siglip",
    "siglip_hf",
    "eva02",
];
/// Of the losses, absolute.
const LOSS_TOLERANCE: f32 = 2e-5;

fn three_steps_match_pytorch<B: Backend>(name: &str)
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let fixture = Fixture::read(name);
    let differences =
        measure::training::<Autodiff<B>>(&fixture, Precision::F32, &Default::default());
    let parameters = fixture.expected("grad").tensors.len();
    assert_eq!(differences.len(), 3 + 2 * parameters, "{name}");
    for difference in differences {
        let allowed = match difference.quantity.starts_with("loss") {
            true => LOSS_TOLERANCE,
            false => TOLERANCE,
        };
        let what = format!("{name} {}", difference.quantity);
        assert_close(&what, &[difference.largest], &[0.0], allowed);
    }
}

#[test]
fn gradients_and_three_adamw_steps_match_pytorch_on_flex() {
    for name in TRAINED {
        three_steps_match_pytorch::<Flex>(name);
    }
}

#[test]
fn gradients_and_three_adamw_steps_match_pytorch_on_ndarray() {
    for name in TRAINED {
        three_steps_match_pytorch::<NdArray>(name);
    }
}

#[cfg(feature = "tch")]
#[test]
fn gradients_and_three_adamw_steps_match_pytorch_on_tch() {
    clip_burn::backend::register_kernels();
    for name in ["base", "quick_gelu", "clipa"] {
        three_steps_match_pytorch::<burn_tch::LibTorch>(name);
    }
}

#[cfg(feature = "wgpu")]
#[test]
fn gradients_and_three_adamw_steps_match_pytorch_on_wgpu() {
    clip_burn::backend::register_kernels();
    for name in TRAINED {
        three_steps_match_pytorch::<burn_wgpu::WebGpu>(name);
    }
}

#[test]
fn bf16_is_as_near_to_the_reference_as_pytorchs_mixed_precision() {
    bf16_is_near::<Flex>();
}

#[cfg(feature = "tch")]
#[test]
fn bf16_is_as_near_to_the_reference_as_pytorchs_mixed_precision_on_tch() {
    clip_burn::backend::register_kernels();
    bf16_is_near::<burn_tch::LibTorch>();
}

fn bf16_is_near<B: Backend>()
where
    Autodiff<B>: AutodiffBackend<InnerBackend = B>,
{
    let device = Default::default();
    for name in ["base", "quick_gelu", "clipa"] {
        let fixture = Fixture::read(name);
        let allowed = fixture.amp_bf16();
        let mut differences = measure::features::<B>(&fixture, Precision::Bf16, &device);
        let training = measure::training::<Autodiff<B>>(&fixture, Precision::Bf16, &device);
        differences.extend(measure::worst(training));
        assert_eq!(differences.len(), allowed.len(), "{name}");
        for difference in differences {
            let twice = 2.0 * allowed[&difference.quantity];
            let what = format!("{name} {} in bf16", difference.quantity);
            assert_close(&what, &[difference.largest], &[0.0], twice);
        }
    }
}

#[test]
#[ignore = "takes a minute and some GB: a full ViT-B/32"]
fn a_full_vit_b_32_matches_pytorch() {
    let name = "vit_b_32_closed_form";
    for difference in
        measure::features::<Flex>(&Fixture::read(name), Precision::F32, &Default::default())
    {
        let what = format!("{name} {}", difference.quantity);
        assert_close(&what, &[difference.largest], &[0.0], TOLERANCE);
    }
    three_steps_match_pytorch::<Flex>(name);
}

#[test]
fn what_is_not_a_number_is_infinitely_far() {
    assert_eq!(
        crate::fixture::distance(&[1.0, f32::NAN], &[1.0, 2.0]),
        f32::INFINITY
    );
}
