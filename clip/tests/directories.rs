//! Model directories of SigLIP as open_clip and transformers write them (`tests/reference/siglip_directories.py`).

use burn::prelude::*;
use burn_flex::Flex;
use clip::checkpoint::{StateDict, WeightType, collect, read_state_dict};
use clip::preprocess::{Interpolation, ResizeMode};
use clip::tokenizer::Clean;
use clip::{LoadOptions, ModelConfig, Pretrained};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const DIRECTORIES: [&str; 2] = ["siglip_open_clip", "siglip_hugging_face"];

fn fixture(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../tests/fixtures/models").join(name)
}

fn load(path: &Path) -> Result<Pretrained<Flex>, String> {
    let path = path.to_str().unwrap();
    Pretrained::load(path, &LoadOptions::default(), &Default::default())
        .map_err(|error| error.to_string())
}

fn json_file(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    let rows = value.as_array().unwrap().iter();
    rows.flat_map(|row| row.as_array().unwrap())
        .map(|x| x.as_f64().unwrap() as f32)
        .collect()
}

/// A copy of a directory with some fields of one of its JSON files changed.
fn with_fields(name: &str, file: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let path = copy.path().join(file);
    let mut value = json_file(&path);
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
    copy
}

/// Ids and features of the reference's texts and image.
fn check(model: &Pretrained<Flex>, expected: &Value, texts: &[String], what: &str) {
    let device = Default::default();
    let ids = model.tokenizer.batch(texts).unwrap();
    let wanted: Vec<i32> = numbers(&expected["ids"])
        .iter()
        .map(|id| *id as i32)
        .collect();
    assert_eq!(ids.ids, wanted, "{what}");
    let pixels: Vec<f32> = (0..3 * 16 * 16).map(|i| (0.01 * i as f32).sin()).collect();
    let image = Tensor::from_data(TensorData::new(pixels, [1, 3, 16, 16]), &device);
    for (kind, got) in [
        ("image_features", model.model.encode_image(image)),
        (
            "text_features",
            model.model.encode_text(ids.to_tensor(&device)),
        ),
    ] {
        let got: Vec<f32> = got.into_data().to_vec().unwrap();
        let wanted = numbers(&expected[kind]);
        let largest = wanted.iter().fold(0f32, |max, x| max.max(x.abs()));
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(&wanted) {
            let off = (got - wanted).abs() / largest;
            assert!(off <= 1e-5, "{what} {kind}: {got} for {wanted}");
        }
    }
}

#[test]
fn both_layouts_give_the_references_ids_and_features_and_survive_saving() {
    let expected = json_file(&fixture("siglip_expected.json"));
    let texts: Vec<String> = serde_json::from_value(expected["texts"].clone()).unwrap();
    for name in DIRECTORIES {
        let model = load(&fixture(name)).unwrap();
        check(&model, &expected[name], &texts, name);
        let preprocess = model.preprocess.config();
        assert_eq!(
            (preprocess.mean, preprocess.std),
            ([0.5; 3], [0.5; 3]),
            "{name}"
        );
        assert_eq!(preprocess.resize_mode, ResizeMode::Squash, "{name}");
        assert_eq!(preprocess.interpolation, Interpolation::Bicubic, "{name}");

        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("saved");
        model.save_as(&saved, WeightType::F16).unwrap(); // what it was stored in
        let again = load(&saved).unwrap();
        assert_eq!(again.config, model.config.for_open_clip(), "{name}");
        check(&again, &expected[name], &texts, &format!("{name}, saved"));
    }
}

#[test]
fn a_saved_model_has_open_clips_names_and_shapes() {
    let shapes = |dict: &StateDict| -> Vec<(String, Vec<usize>)> {
        let shape = |(name, tensor): (&str, _)| {
            (
                name.to_string(),
                clip::checkpoint::HostTensor::shape(tensor).to_vec(),
            )
        };
        dict.iter().map(shape).collect()
    };
    let theirs = read_state_dict(&fixture("siglip_open_clip/open_clip_model.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    load(&fixture("siglip_open_clip"))
        .unwrap()
        .save(&saved)
        .unwrap();
    let ours = read_state_dict(&saved.join("open_clip_model.safetensors")).unwrap();
    assert_eq!(shapes(&ours), shapes(&theirs));
    let config = json_file(&saved.join("open_clip_config.json"));
    let vision = &config["model_cfg"]["vision_cfg"];
    assert_eq!(vision["timm_model_name"], "vit_base_patch16_siglip_224");
    assert_eq!(
        (&vision["timm_pool"], &vision["timm_proj"]),
        (&json!("map"), &json!("none"))
    );
}

#[test]
fn images_of_any_shape_are_refused_with_what_to_take_instead() {
    let copy = with_fields("siglip_hugging_face", "config.json", |config| {
        config["model_type"] = json!("siglip2");
    });
    let message = load(copy.path()).unwrap_err();
    assert!(
        message.contains("NaFlex") && message.contains("siglip2-base-patch16-224"),
        "{message}"
    );
}

#[test]
fn what_a_siglip_directory_may_not_say_is_refused_by_name() {
    for (section, field, value) in [
        ("vision_config", "hidden_act", json!("relu")),
        ("text_config", "layer_norm_eps", json!(1e-5)),
        ("vision_config", "vision_use_head", json!(false)),
        ("vision_config", "image_size", json!([16, 24])),
    ] {
        let copy = with_fields("siglip_hugging_face", "config.json", |config| {
            config[section][field] = value;
        });
        let message = load(copy.path()).unwrap_err();
        assert!(
            message.contains(field) && message.contains("config.json"),
            "{message}"
        );
    }
}

#[test]
fn without_a_file_of_preprocessing_siglips_own_is_taken() {
    let copy = with_fields("siglip_hugging_face", "config.json", |_| {});
    std::fs::remove_file(copy.path().join("preprocessor_config.json")).unwrap();
    let model = load(copy.path()).unwrap();
    assert_eq!(model.preprocess.config().mean, [0.5; 3]);
    assert_eq!(model.preprocess.config().resize_mode, ResizeMode::Squash);
}

/// transformers 5 writes only that.
#[test]
fn preprocessing_is_read_from_the_processors_file_too() {
    let copy = with_fields("siglip_hugging_face", "config.json", |_| {});
    let old = copy.path().join("preprocessor_config.json");
    let mut fields = json_file(&old);
    fields["image_mean"] = json!([0.1, 0.2, 0.3]);
    let new = json!({"processor_class": "SiglipProcessor", "image_processor": fields});
    std::fs::write(copy.path().join("processor_config.json"), new.to_string()).unwrap();
    std::fs::remove_file(old).unwrap();
    let model = load(copy.path()).unwrap();
    assert_eq!(model.preprocess.config().mean, [0.1, 0.2, 0.3]);
}

#[test]
fn steps_of_preprocessing_that_are_not_built_are_refused_by_name() {
    for (field, value) in [
        ("do_resize", json!(false)),
        ("rescale_factor", json!(0.0)),
        ("crop_size", json!({"height": 14, "width": 14})),
    ] {
        let copy = with_fields(
            "siglip_hugging_face",
            "preprocessor_config.json",
            |config| {
                config[field] = value;
            },
        );
        let message = load(copy.path()).unwrap_err();
        assert!(
            message.contains(field) && message.contains("preprocessor_config.json"),
            "{message}"
        );
    }
}

#[test]
fn other_ranges_of_pixels_are_another_mean_and_deviation() {
    let read = |field: &str, value: serde_json::Value| {
        let change = |config: &mut serde_json::Value| config[field] = value;
        let copy = with_fields("siglip_hugging_face", "preprocessor_config.json", change);
        let config = load(copy.path()).unwrap().preprocess.config().clone();
        (config.mean, config.std)
    };
    assert_eq!(read("do_normalize", json!(false)), ([0.0; 3], [1.0; 3]));
    // (x / 127.5 − 0.5) / 0.5 = (x / 255 − 0.25) / 0.25
    let factor = json!(1.0 / 127.5);
    assert_eq!(read("rescale_factor", factor), ([0.25; 3], [0.25; 3]));
    let (mean, std) = read("do_rescale", json!(false));
    assert_eq!((mean, std), ([0.5 / 255.0; 3], [0.5 / 255.0; 3]));
}

/// transformers' `center_crop` takes `(side - crop) // 2`.
#[test]
fn a_crop_of_hugging_face_begins_where_transformers_begins() {
    use clip::preprocess::CropRounding;
    let model = load(&fixture("siglip_hugging_face")).unwrap();
    assert_eq!(model.preprocess.config().crop_rounding, CropRounding::Down);
    let model = load(&fixture("siglip_open_clip")).unwrap();
    assert_eq!(model.preprocess.config().crop_rounding, CropRounding::Even);
}

#[test]
fn an_image_size_that_does_not_fit_is_refused() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/commands/hugging_face");
    for side in [0, 3, 17] {
        let options = LoadOptions {
            image_size: Some([side, side]),
            ..LoadOptions::default()
        };
        let path = fixture.to_str().unwrap();
        let message = Pretrained::<Flex>::load(path, &options, &Default::default()).unwrap_err();
        assert!(message.to_string().contains("image_size"), "{message}");
    }
}

#[test]
fn weights_are_loaded_strictly() {
    for name in DIRECTORIES {
        let copy = with_fields(name, "tokenizer_config.json", |_| {});
        let file = ["open_clip_model.safetensors", "model.safetensors"]
            .map(|file| copy.path().join(file))
            .into_iter()
            .find(|file| file.is_file())
            .unwrap();
        let dict = read_state_dict(&file).unwrap();
        let bias = |name: &str| {
            name.contains("pool.proj.bias") || name.contains("head.attention.out_proj.bias")
        };
        let without = dict
            .clone()
            .rename(|name| (!bias(name)).then(|| name.to_string()));
        assert_eq!(without.len() + 1, dict.len(), "{name}");
        clip::checkpoint::write_safetensors(&file, &without).unwrap();
        let message = load(copy.path()).unwrap_err();
        assert!(
            message.contains("missing (1): visual.attn_pool.proj.bias"),
            "{message}"
        );
    }
}

#[test]
fn another_image_size_resizes_the_positions_of_a_tower_without_class_token() {
    let options = LoadOptions {
        image_size: Some([24, 24]),
        ..LoadOptions::default()
    };
    let path = fixture("siglip_open_clip");
    let device = Default::default();
    let model = Pretrained::<Flex>::load(path.to_str().unwrap(), &options, &device).unwrap();
    let image = Tensor::zeros([1, 3, 24, 24], &device);
    assert_eq!(model.model.encode_image(image).dims(), [1, 8]);
    let kwargs = model.config.vision_cfg.timm_model_kwargs.unwrap();
    assert_eq!(kwargs["img_size"], 24);
}

#[test]
fn presets_of_siglip_name_their_cleaning() {
    let config = ModelConfig::preset("ViT-B-16-SigLIP").unwrap();
    let kwargs = config.text_cfg.tokenizer_kwargs.unwrap();
    let clean: Clean = serde_json::from_value(kwargs["clean"].clone()).unwrap();
    assert_eq!(clean, Clean::Canonicalize);
}

/// What the engine relies on when a checkpoint leaves to the exported model what that holds already.
#[test]
fn every_parameter_is_exported_under_the_name_that_is_told() {
    let towers = ["base", "clipa", "siglip", "eva02"].map(|name| {
        let file = fixture("..").join(format!("towers/{name}.safetensors"));
        let bytes = std::fs::read(&file).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let config = &header.metadata().as_ref().unwrap()["model_cfg"];
        ModelConfig::from_json(&serde_json::from_str(config).unwrap()).unwrap()
    });
    for mut config in towers {
        config.text_cfg.hf_tokenizer_name = None;
        config.text_cfg.vocab_size = 49408;
        let options = LoadOptions::default();
        let model = Pretrained::<Flex>::random(config, &options, &Default::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        model.write_into(folder.path()).unwrap();
        let parameters = collect(&model.model);
        assert!(parameters.len() > 20);
        for (path, tensor) in parameters.iter() {
            let (file, name) = model.exported_name(path);
            let exported = read_state_dict(&folder.path().join(file)).unwrap();
            let exported = exported
                .get(&name)
                .unwrap_or_else(|| panic!("{path} → {name}"));
            assert_eq!(exported.values(), tensor.values(), "{path} → {name}");
        }
    }
}
