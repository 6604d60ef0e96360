//! Rates of learning by layer.

use super::path;
use burn::backend::{Autodiff, Flex};
use clip_burn::clip::ModelConfig;
use clip_burn::clip::nn::init::Init;
use clip_burn::clip::preprocess::PreprocessConfig;
use clip_burn::llm2clip::{AdapterConfig, NetworkConfig};
use clip_burn::train::parameters::groups::{Groups, GroupsConfig, LayerRule};
use clip_burn::train::parameters::parameters;
use serde_json::json;
use std::collections::BTreeMap;

/// Our path in an EVA-02 tower → the release's.
fn eva(path: &str) -> String {
    let table = [
        ("visual.conv1.", "visual.patch_embed.proj."),
        ("visual.class_embedding", "visual.cls_token"),
        ("visual.positional_embedding", "visual.pos_embed"),
        ("visual.ln_post.", "visual.norm."),
        ("visual.transformer.resblocks.", "visual.blocks."),
        (".ln_1.", ".norm1."),
        (".ln_2.", ".norm2."),
        (".attn.ln_inner.", ".attn.inner_attn_ln."),
        (".attn.out_proj.", ".attn.proj."),
        (".mlp.gate.", ".mlp.w1."),
        (".mlp.value.", ".mlp.w2."),
        (".mlp.ln_inner.", ".mlp.ffn_ln."),
        (".mlp.c_proj.", ".mlp.w3."),
    ];
    table.iter().fold(path.to_string(), |path, (ours, theirs)| {
        path.replace(ours, theirs)
    })
}

#[test]
fn every_parameter_of_both_towers_learns_at_the_rate_of_the_release() {
    let golden = std::fs::read_to_string(path("rates.json")).unwrap();
    let golden: BTreeMap<String, BTreeMap<String, f64>> = serde_json::from_str(&golden).unwrap();
    let text =
        json!({ "context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1 });
    let narrow =
        json!({ "img_size": 28, "patch_size": 14, "depth": 24, "num_heads": 2, "embed_dim": 16 });
    let eva_cfg = json!({ "image_size": 28, "timm_model_name": "eva02_large_patch14_clip_224", "timm_pool": "token",
                          "timm_proj": null, "timm_model_kwargs": narrow });
    let vit_cfg =
        json!({ "image_size": 32, "patch_size": 16, "width": 8, "head_width": 4, "layers": 12 });
    for (name, vision_cfg) in [("EVA02-L-14", eva_cfg), ("ViT-B-16", vit_cfg)] {
        let config = json!({ "embed_dim": 6, "vision_cfg": vision_cfg, "text_cfg": text, "custom_text": true });
        let config = NetworkConfig {
            vision: ModelConfig::from_json(&config).unwrap(),
            preprocess: PreprocessConfig::default(),
            adapter: AdapterConfig::new(4, 6),
        };
        let network = config.init::<Autodiff<Flex>>(&mut Init::Zeros, &Default::default());
        let groups = GroupsConfig {
            image_layer_decay: Some(0.85),
            layer_rule: LayerRule::Eva,
            ..GroupsConfig::default()
        };
        let groups = Groups::new(&groups, parameters(&network)).unwrap();
        let mut compared = 0;
        for rule in &groups.0 {
            let path = match name {
                "ViT-B-16" => rule.parameter.path.clone(),
                _ => eva(&rule.parameter.path),
            };
            if !path.starts_with("visual.") {
                assert_eq!(rule.lr_scale, 1.0, "{path}");
                continue;
            }
            let expected = golden[name]
                .get(&path)
                .unwrap_or_else(|| panic!("no {path}"));
            assert!(
                (rule.lr_scale - expected).abs() < 1e-11,
                "{path}: {} is not {expected}",
                rule.lr_scale
            );
            compared += 1;
            let spared = [
                "pos_embed",
                "cls_token",
                "positional_embedding",
                "class_embedding",
            ];
            let plain =
                rule.parameter.shape.len() < 2 || spared.iter().any(|end| path.ends_with(end));
            assert_eq!(rule.decay, !plain, "{path}");
        }
        assert_eq!(compared, golden[name].len(), "{name}");
    }
}
