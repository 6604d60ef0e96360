//! The presets of LaCLIP's models: their size, and how they start.

use super::*;
use crate::checkpoint::{StateDict, collect};
use crate::config::Layers;
use burn::backend::Autodiff;
use burn::module::ModuleVisitor;
use burn_flex::Flex;

/// Tensors and values, counted without drawing them.
fn size(model: &Clip<Flex>) -> (usize, usize) {
    #[derive(Default)]
    struct Count(usize, usize);
    impl ModuleVisitor<Flex> for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
            self.0 += 1;
            self.1 += param.lazy_shape().num_elements();
        }
    }
    let mut count = Count::default();
    model.visit(&mut count);
    (count.0, count.1)
}

/// LaCLIP's configuration with few blocks and words, so that it is quick to draw.
fn small() -> ModelConfig {
    let mut config = ModelConfig::preset("CLIP_VITS16").unwrap();
    config.vision_cfg.layers = Layers::Blocks(1);
    config.text_cfg.layers = 1;
    config.text_cfg.vocab_size = 100;
    config
}

#[track_caller]
fn assert_deviation(dict: &StateDict, name: &str, deviation: f32) {
    let values = dict.get(name).unwrap_or_else(|| panic!("{name}")).values();
    if deviation == 0.0 {
        assert!(values.iter().all(|x| *x == 0.0), "{name}");
        return;
    }
    let square: f32 = values.iter().map(|x| x * x).sum();
    let got = (square / values.len() as f32).sqrt();
    let error = (got / deviation - 1.0).abs() * (values.len() as f32).sqrt();
    assert!(error < 5.0, "{name}: {got} against {deviation}"); // five standard errors at least
}

#[test]
fn laclip_presets_have_the_released_size() {
    for (name, expected) in [
        ("CLIP_VITS16", (349, 85_291_905)),
        ("CLIP_VITB16", (349, 149_623_041)),
        ("CLIP_VITL16", (541, 367_260_161)),
    ] {
        let config = ModelConfig::preset(name).unwrap();
        let model = config.build(Init::Zeros, Precision::F32, &Default::default());
        assert_eq!(size(&model), expected, "{name}");
    }
}

/// LaCLIP's `models.py`: timm's class token and positions, PyTorch's `Linear` in the rebuilt blocks, SLIP's text tower.
#[test]
fn laclip_models_start_as_in_the_release() {
    let dict = collect(&small().init::<Flex>(1, Precision::F32, &Default::default()));
    let [w, t] = [384f32, 512.];
    let uniform = |inputs: f32| inputs.powf(-0.5) / 3f32.sqrt();
    let (vision, text) = (
        "visual.transformer.resblocks.0.",
        "text.transformer.resblocks.0.",
    );
    for (name, deviation) in [
        ("visual.class_embedding".to_string(), 0.02),
        ("visual.positional_embedding".into(), 0.02),
        ("visual.conv1.weight".into(), uniform(3. * 16. * 16.)),
        ("visual.conv1.bias".into(), uniform(3. * 16. * 16.)),
        ("visual.proj".into(), w.powf(-0.5)),
        (format!("{vision}attn.in_proj_weight"), uniform(w)),
        (format!("{vision}attn.in_proj_bias"), uniform(w)),
        (format!("{vision}attn.out_proj.weight"), uniform(w)),
        (format!("{vision}attn.out_proj.bias"), uniform(w)),
        (format!("{vision}mlp.c_fc.weight"), uniform(w)),
        (format!("{vision}mlp.c_proj.weight"), uniform(4. * w)),
        ("text.token_embedding.weight".into(), 0.02),
        ("text.positional_embedding".into(), 0.01),
        (format!("{text}attn.in_proj_weight"), t.powf(-0.5)),
        // One block here, twelve in the release: 2 · layers.
        (
            format!("{text}attn.out_proj.weight"),
            t.powf(-0.5) * 2f32.powf(-0.5),
        ),
        (
            format!("{text}mlp.c_proj.weight"),
            t.powf(-0.5) * 2f32.powf(-0.5),
        ),
        (format!("{text}mlp.c_fc.weight"), (2. * t).powf(-0.5)),
        (format!("{text}mlp.c_fc.bias"), uniform(t)),
        (format!("{text}mlp.c_proj.bias"), uniform(4. * t)),
        ("text.text_projection".into(), t.powf(-0.5)),
    ] {
        assert_deviation(&dict, &name, deviation);
    }
    for bias in ["attn.in_proj_bias", "attn.out_proj.bias"] {
        let values = dict.get(&format!("{text}{bias}")).unwrap().values();
        assert!(values.iter().all(|x| *x == 0.0), "{bias}");
    }
    let gain = dict
        .get(&format!("{vision}attn.ln_q.weight"))
        .unwrap()
        .values();
    assert_eq!(gain, [1.0; 32]); // twelve heads, not timm's six
}

/// SHA-256 of all parameters, in order of their names.
fn checksum(config: &ModelConfig) -> String {
    use sha2::{Digest, Sha256};
    let model = config.init::<Flex>(7, Precision::F32, &Default::default());
    let mut hash = Sha256::new();
    for (name, tensor) in collect(&model).iter() {
        hash.update(name);
        tensor
            .values()
            .iter()
            .for_each(|x| hash.update(x.to_le_bytes()));
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A seed is a model: what was drawn before a change of the code must be drawn after it.
#[test]
fn initial_weights_of_the_presets_never_change() {
    let preset = |name| ModelConfig::preset(name).unwrap();
    let mut sin_cos = preset("tiny");
    sin_cos.vision_cfg.pos_embed_type = crate::PositionKind::SinCos2d;
    let drawn =
        [preset("tiny"), preset("scenes"), small(), sin_cos].map(|config| checksum(&config));
    let expected = [
        "b2e09e2b71909920",
        "b11751a577eea5b8",
        "5477ca897a272f22",
        "af082d85157aaab8",
    ];
    assert_eq!(drawn, expected);
}

#[test]
fn a_skeleton_makes_no_tensor_of_a_parameter() {
    struct Made(Vec<usize>);
    impl ModuleVisitor<Flex> for Made {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<Flex, D>>) {
            if param.is_initialized() {
                self.0.push(param.lazy_shape().num_elements());
            }
        }
    }
    for name in ["ViT-B-32", "CLIP_VITB16", "ViT-B-16-SigLIP", "EVA02-B-16"] {
        let config = ModelConfig::preset(name).unwrap();
        let model: Clip<Flex> = config.build(Init::Zeros, Precision::F32, &Default::default());
        let mut made = Made(Vec::new());
        model.visit(&mut made);
        assert!(made.0.iter().all(|size| *size == 1), "{name}: {:?}", made.0); // scale and bias of the logits
    }
}

/// A preset with two blocks and few words.
fn shallow(name: &str) -> ModelConfig {
    let mut config = ModelConfig::preset(name).unwrap();
    config.vision_cfg.layers = Layers::Blocks(2);
    config.text_cfg.layers = 2;
    config.text_cfg.vocab_size = 100;
    config
}

/// Normal values beyond two deviations drawn anew: what is left of the deviation.
const CUT: f32 = 0.879_625_7;

#[test]
fn siglip_starts_as_timm_and_open_clip_build_it() {
    let config = shallow("ViT-B-16-SigLIP");
    let dict = collect(&config.init::<Flex>(1, Precision::F32, &Default::default()));
    let w = 768f32;
    for (name, deviation) in [
        ("visual.positional_embedding", 0.02),
        ("visual.conv1.weight", w.powf(-0.5) / 3f32.sqrt()),
        ("visual.transformer.resblocks.1.attn.in_proj_weight", 0.02),
        ("visual.transformer.resblocks.1.attn.in_proj_bias", 0.0),
        ("visual.transformer.resblocks.1.mlp.c_proj.weight", 0.02),
        ("visual.transformer.resblocks.1.mlp.c_fc.bias", 0.0),
        ("visual.attn_pool.latent", CUT * w.powf(-0.5)),
        ("visual.attn_pool.kv.weight", 0.02),
        ("visual.attn_pool.mlp.c_proj.weight", 0.02),
        (
            "text.transformer.resblocks.1.attn.in_proj_weight",
            w.powf(-0.5),
        ),
        ("text.text_projection.weight", w.powf(-0.5)),
        ("text.text_projection.bias", 0.0),
    ] {
        assert_deviation(&dict, name, deviation);
    }
}

#[test]
fn eva02_starts_with_smaller_branches_in_deeper_blocks_and_a_tiny_head() {
    let config = shallow("EVA02-B-16");
    let dict = collect(&config.init::<Flex>(1, Precision::F32, &Default::default()));
    let block = |i: usize, name: &str| format!("visual.transformer.resblocks.{i}.{name}");
    for (name, deviation) in [
        ("visual.class_embedding".to_string(), 0.02),
        ("visual.positional_embedding".into(), 0.02),
        (block(0, "attn.q_proj.weight"), 0.02),
        (block(0, "attn.q_proj.bias"), 0.0),
        (block(0, "attn.out_proj.weight"), 0.02 / 2f32.sqrt()),
        (block(1, "attn.out_proj.weight"), 0.02 / 4f32.sqrt()),
        (block(1, "mlp.gate.weight"), 0.02),
        (block(1, "mlp.c_proj.weight"), 0.02 / 4f32.sqrt()),
        ("visual.head.weight".into(), 2e-5),
        ("visual.head.bias".into(), 0.0),
    ] {
        assert_deviation(&dict, &name, deviation);
    }
    assert!(dict.get(&block(0, "attn.k_proj.bias")).is_none());
}

/// CLIPA's and OpenVision's JAX code.
#[test]
fn clips_starts_as_in_jax_with_fixed_positions() {
    let config = shallow("ViT-L-14-CLIPS-224");
    let model = config.init::<Flex>(1, Precision::F32, &Default::default());
    let dict = collect(&model);
    let [w, t] = [1024f32, 768.];
    let (vision, text) = (
        "visual.transformer.resblocks.1.",
        "text.transformer.resblocks.1.",
    );
    for (name, deviation) in [
        ("visual.class_embedding".to_string(), 1e-6),
        (
            "visual.conv1.weight".into(),
            (2f32 / (3. * 14. * 14.)).sqrt(),
        ),
        (format!("{vision}attn.in_proj_weight"), 0.02),
        (format!("{vision}attn.out_proj.weight"), 0.02),
        (format!("{vision}mlp.c_fc.weight"), 0.02),
        (format!("{vision}mlp.c_fc.bias"), 0.0),
        (format!("{vision}mlp.c_proj.weight"), (0.3072 / w).sqrt()),
        ("visual.proj".into(), 0.02),
        ("text.token_embedding.weight".into(), 0.02),
        ("text.positional_embedding".into(), 0.01),
        (format!("{text}attn.in_proj_weight"), t.powf(-0.5)),
        (format!("{text}attn.out_proj.weight"), (24. * t).powf(-0.5)), // twelve blocks, whatever their number
        (format!("{text}mlp.c_fc.weight"), (2. * t).powf(-0.5)),
        (format!("{text}mlp.c_fc.bias"), 0.0),
        (format!("{text}mlp.c_proj.weight"), (24. * t).powf(-0.5)),
        ("text.text_projection".into(), t.powf(-0.5)),
    ] {
        assert_deviation(&dict, &name, deviation);
    }
    let positions = dict.get("visual.positional_embedding").unwrap();
    assert_eq!(positions.values(), crate::nn::sin_cos_2d_moco(1024, 16));
    let model: Clip<Autodiff<Flex>> =
        config.build(Init::Zeros, Precision::F32, &Default::default());
    let vit = model.visual.as_vit().unwrap();
    assert!(!vit.positional_embedding.val().is_require_grad());
    assert!(vit.conv1.weight.val().is_require_grad());
}

#[test]
fn how_a_tower_starts_is_chosen_apart_from_its_patches_bias() {
    let mut config = small();
    let drawn = |config: &ModelConfig| {
        let dict = collect(&config.init::<Flex>(1, Precision::F32, &Default::default()));
        assert!(dict.get("visual.conv1.bias").is_some());
        dict
    };
    assert_deviation(&drawn(&config), "visual.class_embedding", 0.02);
    config.vision_cfg.init = Some(crate::TowerInit::OpenClip);
    let open_clip = drawn(&config);
    assert_deviation(&open_clip, "visual.class_embedding", 384f32.powf(-0.5));
    let bias = "visual.transformer.resblocks.0.attn.in_proj_bias";
    assert_deviation(&open_clip, bias, 0.0);
}

#[test]
fn probabilities_are_shared_with_softmax_and_apart_with_a_bias() {
    let device = Default::default();
    let image = Tensor::<Flex, 2>::from_data([[1.0, 0.0]], &device);
    let text = Tensor::<Flex, 2>::from_data([[1.0, 0.0], [0.0, 1.0]], &device);
    for (name, expected) in [("tiny", 1.0), ("siglip", 0.0)] {
        let mut config = ModelConfig::preset("tiny").unwrap();
        config.init_logit_bias = (name == "siglip").then_some(-20.0);
        let model = config.init::<Flex>(1, Precision::F32, &device);
        let sum = model
            .probabilities(image.clone(), text.clone())
            .sum()
            .into_scalar();
        assert!((sum - expected).abs() < 1e-2, "{name}: {sum}");
    }
}
