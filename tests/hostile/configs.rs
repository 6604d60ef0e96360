//! Model directories: open_clip's and Hugging Face's configurations, beside weights that are whole.

use crate::{Dice, Said, json};
use burn::backend::Flex;
use burn::tensor::Tensor;
use clip_burn::clip::{LoadOptions, ModelConfig, Pretrained};
use serde_json::{Value, json};
use std::sync::OnceLock;

pub fn attack(dice: &mut Dice, said: &mut Said) {
    match dice.below(6) {
        0 | 1 => hugging_face(dice, said),
        2 => architecture(dice, said),
        _ => open_clip(dice, said),
    }
}

/// The two files of a small model.
fn model() -> &'static (Value, Vec<u8>) {
    static MODEL: OnceLock<(Value, Vec<u8>)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let config = ModelConfig::from_json(&json!({
            "embed_dim": 8,
            "vision_cfg": {"image_size": 8, "layers": 1, "width": 8, "head_width": 4, "patch_size": 4},
            "text_cfg": {"context_length": 8, "vocab_size": 49_408, "width": 4, "heads": 1, "layers": 1},
        }));
        let config = config.expect("a small model");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("m");
        let random = Pretrained::<Flex>::random(config, &LoadOptions::default(), &Default::default());
        random.and_then(|model| model.save(&path)).expect("a small model");
        let read = |name: &str| std::fs::read(path.join(name)).expect("it was just written");
        let config = serde_json::from_slice(&read("open_clip_config.json")).expect("it is ours");
        (config, read("open_clip_model.safetensors"))
    })
}

fn open_clip(dice: &mut Dice, said: &mut Said) {
    let (config, weights) = model();
    let mut config = config.clone();
    if dice.bad() {
        let more = json!({"norm_kwargs": {"eps": 1e-5}, "mlp_ratio": 4.0, "pool_type": "avg", "ls_init_value": 0.1,
            "timm_model_name": "vit_base_patch16_siglip_224", "timm_model_kwargs": {"embed_dim": 8, "depth": 1, "num_heads": 2}});
        for (name, value) in more.as_object().expect("an object") {
            if dice.bad() {
                config["model_cfg"]["vision_cfg"][name] = value.clone();
            }
        }
    }
    let of_file = dice.below(3) > 0;
    let text = dice.only(of_file, |dice| json::bytes(dice, config.clone()));
    said.write("m/open_clip_config.json", text);
    said.write("m/open_clip_model.safetensors", weights);
    load(dice, said);
}

/// Another size of a tower than its tensors have, in one place or two.
fn architecture(dice: &mut Dice, said: &mut Said) {
    let (config, weights) = model();
    let mut config = config.clone();
    for _ in 0..1 + dice.below(3) {
        let section = *dice.pick(&["vision_cfg", "text_cfg"]);
        let field = match section {
            "vision_cfg" => *dice.pick(&[
                "image_size",
                "layers",
                "width",
                "head_width",
                "patch_size",
                "mlp_ratio",
            ]),
            _ => *dice.pick(&[
                "context_length",
                "vocab_size",
                "width",
                "heads",
                "layers",
                "mlp_ratio",
                "eos_id",
                "pad_id",
            ]),
        };
        let most: u64 = *dice.pick(&[
            0,
            1,
            2,
            3,
            64,
            1024,
            8_192,
            16_384,
            65_536,
            1 << 20,
            1 << 24,
            1 << 40,
        ]);
        config["model_cfg"][section][field] = json!(most);
    }
    if dice.below(2) == 0 {
        config["model_cfg"]["embed_dim"] = json!(dice.number());
    }
    said.write("m/open_clip_config.json", config.to_string());
    said.write("m/open_clip_model.safetensors", weights);
    load(dice, said);
    said.hear_of_bytes(ModelConfig::from_json(&config));
}

fn hugging_face(dice: &mut Dice, said: &mut Said) {
    let kind = *dice.pick(&["clip", "clip", "clip", "clip", "siglip", "siglip2"]);
    let place = dice.below(4);
    let config = json!({
        "model_type": kind, "projection_dim": 8, "logit_scale_init_value": 2.6592,
        "vision_config": {"image_size": 8, "num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 32,
                          "patch_size": 4, "layer_norm_eps": 1e-5},
        "text_config": {"max_position_embeddings": 8, "vocab_size": 49_408, "hidden_size": 4, "num_attention_heads": 1,
                        "num_hidden_layers": 1, "intermediate_size": 16, "eos_token_id": 49_407, "layer_norm_eps": 1e-5},
    });
    let config = dice.only(place < 2, |dice| json::bytes(dice, config.clone()));
    said.write("m/config.json", config);
    let processor = json!({
        "size": {"shortest_edge": 8}, "crop_size": {"height": 8, "width": 8}, "do_center_crop": true, "do_resize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "rescale_factor": 1.0 / 255.0, "resample": 3,
    });
    let processor = dice.only(place == 2, |dice| json::bytes(dice, processor.clone()));
    said.write("m/preprocessor_config.json", processor);
    said.write("m/model.safetensors", &model().1);
    load(dice, said);
}

fn load(dice: &mut Dice, said: &mut Said) {
    let mut options = LoadOptions::default();
    if dice.bad() {
        options.image_size = Some([dice.number() as usize, dice.or_number(8) as usize]);
    }
    if dice.bad() {
        options.context_length = Some(dice.number() as usize);
    }
    let path = said.path("m");
    let device = Default::default();
    let words = [
        "`vision_cfg.",
        "`text_cfg.",
        "`embed_dim`",
        "tokenizer configuration",
    ];
    let Some(model) = said.hear_in(
        Pretrained::<Flex>::from_dir(&path, &options, &device),
        &words,
    ) else {
        return;
    };
    let [height, width] = model.preprocess.config().size;
    if height * width > 128 * 128 {
        return;
    }
    let image = image::RgbImage::new(20, 31);
    let pixels = model
        .preprocess
        .batch(&[image])
        .to_tensor::<Flex>(model.preprocess.config(), &device);
    let _: Tensor<Flex, 2> = model.model.encode_image(pixels);
    // Attention takes the square of it.
    if model.tokenizer.context_length() > 1024 {
        return;
    }
    if let Some(texts) = said.hear(model.tokenizer.batch(&["a cat"])) {
        model.model.encode_text(texts.to_tensor(&device));
    }
}
