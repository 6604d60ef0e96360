//! Vision towers alone, and EVA-02 under the names of every source (`tests/reference/towers_timm.py` made the weights).

use burn::prelude::*;
use burn_flex::Flex;
use clip::checkpoint::{HostTensor, StateDict, read_state_dict, write_safetensors};
use clip::{LoadOptions, Pretrained, VisionOptions, VisionTower};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// A model of the parity tests: its configuration, and its tensors by their prefix.
struct Reference {
    config: Value,
    tensors: StateDict,
}

impl Reference {
    fn read(name: &str) -> Self {
        let path = fixtures().join(format!("towers/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["model_cfg"];
        Self {
            config: serde_json::from_str(config).unwrap(),
            tensors: read_state_dict(&path).unwrap(),
        }
    }

    fn model(&self) -> StateDict {
        let own = |name: &str| name.strip_prefix("model.").map(Into::into);
        self.tensors.clone().rename(own)
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<Flex, D> {
        let tensor = self.tensors.get(name).unwrap();
        let shape: [usize; D] = tensor.shape().try_into().unwrap();
        Tensor::from_data(TensorData::new(tensor.values(), shape), &Default::default())
    }

    /// Features of the image that the reference computed.
    #[track_caller]
    fn check(&self, tower: &VisionTower<Flex>) {
        let off = tower.forward(self.tensor("image")) - self.tensor("image_features");
        let off = off.abs().max().into_scalar();
        let largest = self.tensor::<2>("image_features").abs().max().into_scalar();
        assert!(off <= 1e-5 * largest, "{off}");
    }
}

/// A checkpoint file and its config file.
fn files(folder: &Path, config: &Value, dict: &StateDict) -> (String, VisionOptions) {
    let (weights, json) = (
        folder.join("weights.safetensors"),
        folder.join("config.json"),
    );
    write_safetensors(&weights, dict).unwrap();
    std::fs::write(&json, config.to_string()).unwrap();
    let options = VisionOptions {
        model: LoadOptions {
            config: Some(json.to_str().unwrap().into()),
            ..LoadOptions::default()
        },
        head: None,
    };
    (weights.to_str().unwrap().into(), options)
}

/// timm's names → EVA-CLIP's: `q_bias` in the original release, `q_proj.bias` in LLM2CLIP's.
fn eva_clip(dict: StateDict, separate_bias: bool) -> StateDict {
    let renames = [
        ("attn.norm.", "attn.inner_attn_ln."),
        ("mlp.fc1_g.", "mlp.w1."),
        ("mlp.fc1_x.", "mlp.w2."),
        ("mlp.norm.", "mlp.ffn_ln."),
        ("mlp.fc2.", "mlp.w3."),
    ];
    let biases = [
        ("attn.q_proj.bias", "attn.q_bias"),
        ("attn.v_proj.bias", "attn.v_bias"),
    ];
    let mut dict = dict.rename(|name| {
        let mut name = name.replace("visual.trunk.", "visual.");
        let biases = biases.iter().filter(|_| separate_bias);
        for (from, to) in renames.iter().chain(biases) {
            name = name.replace(from, to);
        }
        Some(name)
    });
    for name in [
        "rope.freqs_cos",
        "rope.freqs_sin",
        "blocks.0.attn.rope.freqs_cos",
    ] {
        dict.insert(
            format!("visual.{name}"),
            HostTensor::from_values(vec![0.5; 72], [9, 8]),
        );
    }
    dict
}

#[test]
fn eva02_gives_the_same_embeddings_under_every_sources_names() {
    let reference = Reference::read("eva02");
    for (what, dict) in [
        ("open_clip", reference.model()),
        ("EVA-CLIP", eva_clip(reference.model(), true)),
        ("LLM2CLIP", eva_clip(reference.model(), false)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (file, options) = files(folder.path(), &reference.config, &dict);
        let loaded = VisionTower::load(&file, &options, &Default::default())
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        reference.check(&loaded.tower);
        assert_eq!(loaded.logit_scale, Some(2.0), "{what}");
    }
}

#[test]
fn a_whole_eva_clip_file_loads_with_its_text_tower() {
    let reference = Reference::read("eva02");
    let folder = tempfile::tempdir().unwrap();
    let mut dict = eva_clip(reference.model(), true);
    let scale = dict.remove("logit_scale").unwrap();
    dict.insert("text.logit_scale", scale); // where EVA-CLIP keeps it
    let mut config = reference.config.clone();
    config["text_cfg"]["hf_tokenizer_name"] = json!("any");
    let (file, options) = files(folder.path(), &config, &dict);
    let options = LoadOptions {
        tokenizer: Some(fixtures().join("tokenizer_bert")),
        ..options.model
    };
    let model = Pretrained::<Flex>::load(&file, &options, &Default::default()).unwrap();
    reference.check(&model.model.visual);
    let ids = reference.tensor::<2>("ids").int();
    let off = model.model.encode_text(ids) - reference.tensor("text_features");
    assert!(off.abs().max().into_scalar() < 1e-4);
    assert!((model.model.scale().into_scalar().ln() - 2.0).abs() < 1e-6);
}

#[test]
fn a_tower_loads_beside_any_text_side_and_keeps_its_own_dimension() {
    for name in ["base", "eva02", "siglip", "siglip_hf"] {
        let reference = Reference::read(name);
        let folder = tempfile::tempdir().unwrap();
        let mut dict = reference.model();
        if name != "siglip_hf" {
            // LLM2CLIP's adapter in place of the text tower.
            dict = dict.rename(|name| {
                let kept = name.starts_with("visual.") || name == "logit_scale";
                kept.then(|| name.to_string())
            });
            dict.insert(
                "text.text_adaptor.4.weight",
                HostTensor::from_values(vec![1.0; 3], [3]),
            );
        }
        let mut config = reference.config.clone();
        if name == "base" {
            config["embed_dim"] = json!(99); // the file knows better
        }
        let (file, options) = files(folder.path(), &config, &dict);
        let loaded = VisionTower::load(&file, &options, &Default::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        reference.check(&loaded.tower);
        let [_, width] = reference.tensors.get("image_features").unwrap().shape()[..] else {
            panic!("{name}")
        };
        assert_eq!(loaded.config.embed_dim, width, "{name}");
    }
}

#[test]
fn a_missing_tensor_of_the_tower_is_named() {
    let reference = Reference::read("eva02");
    let folder = tempfile::tempdir().unwrap();
    let mut dict = reference.model();
    dict.remove("visual.trunk.blocks.1.mlp.norm.bias").unwrap();
    let (file, options) = files(folder.path(), &reference.config, &dict);
    let message = VisionTower::<Flex>::load(&file, &options, &Default::default()).unwrap_err();
    let message = message.to_string();
    assert!(
        message.contains("missing (1): transformer.resblocks.1.mlp.ln_inner.bias"),
        "{message}"
    );
}

#[test]
fn a_new_head_replaces_the_old_one_and_starts_as_its_family_does() {
    let device = Default::default();
    // The deviation of a new head: 16^-½, and 0.02 · 0.001.
    for (name, deviation) in [("base", 0.25f32), ("eva02", 2e-5)] {
        let reference = Reference::read(name);
        let folder = tempfile::tempdir().unwrap();
        let (file, options) = files(folder.path(), &reference.config, &reference.model());
        let options = VisionOptions {
            head: Some(200),
            ..options
        };
        let load = || VisionTower::<Flex>::load(&file, &options, &device).unwrap();
        let (loaded, again) = (load(), load());
        let image = reference.tensor::<4>("image");
        let embedding = loaded.tower.forward(image.clone());
        assert_eq!(embedding.dims(), [4, 200]);
        assert_eq!(
            embedding.into_data(),
            again.tower.forward(image.clone()).into_data()
        );
        assert_eq!(loaded.config.embed_dim, 200);
        // The blocks are the checkpoint's.
        let kept = VisionTower::<Flex>::load(
            &file,
            &VisionOptions {
                head: None,
                ..options.clone()
            },
            &device,
        );
        let kept = kept.unwrap().tower.tokens(image.clone());
        assert_eq!(loaded.tower.tokens(image).into_data(), kept.into_data());
        let weight = match &loaded.tower {
            VisionTower::Vit(vit) => vit.proj.as_ref().unwrap().val(),
            VisionTower::Eva02(eva) => {
                let bias = eva.head.bias.as_ref().unwrap().val();
                assert_eq!(bias.abs().max().into_scalar(), 0.0);
                eva.head.weight.val()
            }
            VisionTower::ResNet(_) => panic!("{name}"),
        };
        let got = weight.square().mean().sqrt().into_scalar();
        assert!((got / deviation - 1.0).abs() < 0.1, "{name}: {got}"); // 3200 values
    }
}

#[test]
fn a_tower_without_projection_takes_no_new_head() {
    let reference = Reference::read("siglip");
    let folder = tempfile::tempdir().unwrap();
    let (file, options) = files(folder.path(), &reference.config, &reference.model());
    let options = VisionOptions {
        head: Some(1280),
        ..options
    };
    let message = VisionTower::<Flex>::load(&file, &options, &Default::default()).unwrap_err();
    assert!(
        message.to_string().contains("16 dimensions, not 1280"),
        "{message}"
    );
}

#[test]
fn positions_are_resized_with_the_image() {
    let reference = Reference::read("eva02");
    for dict in [reference.model(), eva_clip(reference.model(), true)] {
        let folder = tempfile::tempdir().unwrap();
        let (file, mut options) = files(folder.path(), &reference.config, &dict);
        options.model.image_size = Some([32, 32]);
        let loaded = VisionTower::<Flex>::load(&file, &options, &Default::default()).unwrap();
        assert_eq!(loaded.tower.patches(), 16);
        let image = Tensor::ones([1, 3, 32, 32], &Default::default());
        assert_eq!(loaded.tower.forward(image).dims(), [1, 12]);
    }
}
