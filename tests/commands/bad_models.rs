//! Models that are broken, incomplete or foreign are refused with the file's name, and nothing is written.

use crate::command::{Folder, Outcome, fixture, words};
use clip_burn::clip::checkpoint::{HostTensor, StateDict, read_state_dict, write_safetensors};
use serde_json::{Value, json};
use std::path::Path;

/// Both commands must refuse the model and leave no file behind.
#[track_caller]
fn assert_refused(folder: &Folder, model: &str, config: Option<&Path>, said: &[&str]) {
    folder.image("a.png", [32, 32], 1);
    let before = folder.names();
    let config = config.map(|path| vec!["--config".to_string(), path.display().to_string()]);
    let run = |command: &str, line: &str| -> Outcome {
        let mut arguments = words(line);
        arguments.extend(config.clone().unwrap_or_default());
        folder.run(command, &arguments).refused(said)
    };
    run(
        "embed",
        &format!("--model {model} --images a.png --out out"),
    );
    run("convert", &format!("--from {model} --out converted"));
    assert_eq!(folder.names(), before, "nothing is written");
}

/// A bare checkpoint of the tiny preset after `change`.
fn changed(folder: &Folder, change: impl FnOnce(&mut StateDict)) {
    let model = folder.tiny_model("tiny");
    let mut dict = read_state_dict(&model.join("open_clip_model.safetensors")).unwrap();
    change(&mut dict);
    write_safetensors(&folder.path("changed.safetensors"), &dict).unwrap();
}

#[track_caller]
fn assert_changed_refused(folder: &Folder, said: &[&str]) {
    assert_refused(folder, "changed.safetensors", Some(Path::new("tiny")), said);
}

#[test]
fn a_missing_tensor() {
    let folder = Folder::new();
    changed(&folder, |dict| {
        dict.remove("ln_final.weight").unwrap();
        dict.remove("visual.transformer.resblocks.1.mlp.c_fc.bias")
            .unwrap();
    });
    assert_changed_refused(
        &folder,
        &[
            "changed.safetensors",
            "missing (2)",
            "ln_final.weight [32]",
            "resblocks.1.mlp.c_fc.bias [128]",
        ],
    );
}

#[test]
fn an_extra_tensor() {
    let folder = Folder::new();
    changed(&folder, |dict| {
        dict.insert(
            "visual.surprise",
            HostTensor::from_values(vec![0.0; 6], [2, 3]),
        );
    });
    let said = [
        "changed.safetensors",
        "not in the model (1)",
        "visual.surprise [2, 3]",
    ];
    assert_changed_refused(&folder, &said);
}

#[test]
fn a_tensor_of_another_shape() {
    let folder = Folder::new();
    changed(&folder, |dict| {
        dict.insert(
            "visual.proj",
            HostTensor::from_values(vec![0.0; 32 * 16], [32, 16]),
        );
    });
    let said = [
        "changed.safetensors",
        "another shape (1)",
        "visual.proj [32, 16]",
        "[32, 32]",
    ];
    assert_changed_refused(&folder, &said);
}

#[test]
fn a_config_of_another_model() {
    let folder = Folder::new();
    folder.tiny_model("tiny");
    let bare = "tiny/open_clip_model.safetensors";
    let said = [bare, "do not fit", "missing (", " more"];
    assert_refused(&folder, bare, Some(Path::new("ViT-S-16")), &said);
}

#[test]
fn a_bare_checkpoint_without_a_config() {
    let folder = Folder::new();
    folder.tiny_model("tiny");
    let bare = "tiny/open_clip_model.safetensors";
    assert_refused(&folder, bare, None, &[bare, "`config`"]);
}

/// What a SLIP file has not told: a config for it, and what that must say.
#[test]
fn slip_and_laclip_checkpoints_with_no_config_or_the_wrong_one() {
    let folder = Folder::new();
    for name in ["slip", "laclip"] {
        std::fs::copy(
            fixture(&format!("{name}.pt")),
            folder.path(&format!("{name}.pt")),
        )
        .unwrap();
    }
    let said = ["slip.pt", "`config`", "CLIP_VIT", "qk_norm"];
    assert_refused(&folder, "slip.pt", None, &said);
    assert_refused(
        &folder,
        "laclip.pt",
        None,
        &["laclip.pt", "other shapes", "`config`"],
    );
    let plain = Some(Path::new("ViT-B-16"));
    assert_refused(&folder, "laclip.pt", plain, &["patch_bias", "CLIP_VITB16"]);
    let without_preprocessing = fixture("laclip.json");
    let said = ["laclip.pt", "preprocess_cfg"];
    assert_refused(&folder, "laclip.pt", Some(&without_preprocessing), &said);

    // Each with the config of the other.
    for (name, other, said) in [
        (
            "slip",
            "laclip",
            "missing (4): visual.transformer.resblocks.0.attn.ln_q",
        ),
        (
            "laclip",
            "slip",
            "not in the model (4): visual.transformer.resblocks.0.attn.ln_k",
        ),
    ] {
        let text = std::fs::read_to_string(fixture(&format!("{other}.json"))).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        let json = json!({ "model_cfg": config, "preprocess_cfg": {} });
        let path = folder.path("config.json");
        std::fs::write(&path, json.to_string()).unwrap();
        assert_refused(&folder, &format!("{name}.pt"), Some(&path), &[said]);
    }
}

/// The weights fit both, and half of the features' digits would be wrong.
#[test]
fn openais_archives_are_not_read_with_another_activation() {
    let folder = Folder::new();
    let config = fixture("open_clip.json");
    let said = ["torchscript.pt", "QuickGELU", "open_clip.json"];
    let model = fixture("torchscript.pt").display().to_string();
    assert_refused(&folder, &model, Some(&config), &said);
}

#[test]
fn a_config_with_a_field_or_value_that_is_not_built() {
    let folder = Folder::new();
    let model = folder.tiny_model("small");
    let path = model.join("open_clip_config.json");
    let original: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for (section, field, value) in [
        ("vision_cfg", "timm_model_name", json!("vit_base_patch16")),
        ("vision_cfg", "attentional_pool", json!(true)),
        ("text_cfg", "hf_model_name", json!("roberta-base")),
        ("text_cfg", "invented_field", json!(1)),
        ("text_cfg", "width", json!(1_000_000_000_000_u64)),
        ("text_cfg", "layers", json!(0)),
        ("vision_cfg", "layers", json!([3, 4, 6])),
        ("vision_cfg", "mlp_ratio", json!(-4.0)),
    ] {
        let mut config = original.clone();
        config["model_cfg"][section][field] = value;
        std::fs::write(&path, config.to_string()).unwrap();
        assert_refused(&folder, "small", None, &["open_clip_config.json", field]);
    }
    let mut config = original.clone();
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = json!({"invented": 1});
    std::fs::write(&path, config.to_string()).unwrap();
    assert_refused(&folder, "small", None, &["small", "invented"]);
    std::fs::write(&path, "{\"model_cfg\": ").unwrap();
    assert_refused(
        &folder,
        "small",
        None,
        &["open_clip_config.json", "not JSON"],
    );
}

#[test]
fn a_hugging_face_config_that_is_not_built() {
    let folder = Folder::new();
    let original = std::fs::read_to_string(fixture("hugging_face/config.json")).unwrap();
    for (change, said) in [
        (json!({"model_type": "siglip2"}), "NaFlex"),
        (json!({"model_type": "align"}), "align"),
        (json!({"vision_config": {"hidden_act": "relu"}}), "relu"),
        (json!({"vision_config": {"patch_size": 7}}), "patch_size"),
    ] {
        let mut config: Value = serde_json::from_str(&original).unwrap();
        for (key, value) in change.as_object().unwrap() {
            match value {
                Value::Object(fields) => {
                    let section = config[key].as_object_mut().unwrap();
                    section.extend(fields.clone());
                }
                plain => config[key] = plain.clone(),
            }
        }
        folder.write("hf/config.json", config.to_string());
        let weights = std::fs::read(fixture("hugging_face/model.safetensors")).unwrap();
        folder.write("hf/model.safetensors", weights);
        assert_refused(&folder, "hf", None, &["config.json", said]);
    }
}

#[test]
fn pickles_that_hold_more_than_tensors_are_refused_and_not_executed() {
    let folder = Folder::new();
    for (file, said) in [
        ("refused_module.pt", "open_clip.model.CLIP"),
        ("refused_command.pt", "posix.system"),
        ("refused_command_among_tensors.pt", "posix.system"),
    ] {
        let path = fixture(file).display().to_string();
        assert_refused(&folder, &path, Some(Path::new("tiny")), &[file, said]);
    }
    assert_eq!(folder.names(), ["a.png"], "a command was executed");
}

#[test]
fn pickles_that_nest_without_end() {
    let folder = Folder::new();
    let deep = 300_000;
    // Tuples in tuples; lists in lists; a dictionary whose `state_dict` is itself.
    let tuples = [b"N".as_slice(), &[0x85].repeat(deep)].concat();
    let lists = [b"]".repeat(deep), b"a".repeat(deep - 1)].concat();
    let circle = b"}q\0X\x0a\0\0\0state_dicth\0s".to_vec();
    for (name, body) in [("tuples", tuples), ("lists", lists), ("circle", circle)] {
        let pickle = [b"\x80\x02".as_slice(), &body, b"."].concat();
        folder.write(name, &pickle);
        assert_refused(&folder, name, Some(Path::new("tiny")), &[name]);
        folder.write(name, zip(&[("archive/data.pkl".into(), pickle)]));
        assert_refused(&folder, name, Some(Path::new("tiny")), &[name]);
    }
}

#[test]
fn files_cut_short_at_any_place() {
    let folder = Folder::new();
    let model = folder.tiny_model("tiny");
    let weights = std::fs::read(model.join("open_clip_model.safetensors")).unwrap();
    let config = fixture("open_clip.json");
    for (name, whole, config) in [
        ("cut.safetensors", weights, Path::new("tiny")),
        (
            "cut.pt",
            std::fs::read(fixture("open_clip.pt")).unwrap(),
            &config,
        ),
        (
            "cut_legacy.pt",
            std::fs::read(fixture("legacy.pt")).unwrap(),
            &config,
        ),
    ] {
        for keep in [0, 5, 300, whole.len() / 2, whole.len() - 1] {
            folder.write(name, &whole[..keep]);
            assert_refused(&folder, name, Some(config), &[name]);
        }
    }
}

#[test]
fn storages_shorter_than_their_tensors() {
    // An archive that was put together wrongly: one storage of two bytes among whole ones.
    let folder = Folder::new();
    let whole = std::fs::read(fixture("open_clip.pt")).unwrap();
    let mut archive = zip_entries(&whole);
    let (_, content) = archive
        .iter_mut()
        .find(|(name, _)| name.ends_with("/data/2"))
        .unwrap();
    content.truncate(2);
    folder.write("short.pt", zip(&archive));
    let config = fixture("open_clip.json");
    assert_refused(
        &folder,
        "short.pt",
        Some(&config),
        &["short.pt", "cut short"],
    );
}

#[test]
fn files_of_another_kind() {
    let folder = Folder::new();
    folder.write("letter.pt", "Dear reader, these are no weights.\n");
    let config = Some(Path::new("tiny"));
    let said = [
        "letter.pt",
        "neither a safetensors file nor a PyTorch checkpoint",
    ];
    assert_refused(&folder, "letter.pt", config, &said);

    let image = folder.image("photo.safetensors.png", [32, 32], 1);
    std::fs::rename(image, folder.path("photo.safetensors")).unwrap();
    assert_refused(&folder, "photo.safetensors", config, &["photo.safetensors"]);

    folder.write(
        "archive.pt",
        zip(&[("letter.txt".into(), b"Dear reader".to_vec())]),
    );
    assert_refused(&folder, "archive.pt", config, &["archive.pt", "data.pkl"]);

    let mut dict = StateDict::default();
    dict.insert("fc.weight", HostTensor::from_values(vec![0.0; 4], [2, 2]));
    write_safetensors(&folder.path("other.safetensors"), &dict).unwrap();
    let said = ["other.safetensors", "no known CLIP checkpoint", "fc.weight"];
    assert_refused(&folder, "other.safetensors", config, &said);
}

#[test]
fn directories_without_what_a_model_needs() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("hollow")).unwrap();
    assert_refused(
        &folder,
        "hollow",
        None,
        &["hollow", "not a model directory"],
    );
    let model = folder.tiny_model("small");
    std::fs::remove_file(model.join("open_clip_model.safetensors")).unwrap();
    assert_refused(&folder, "small", None, &["small", "no weights"]);
}

#[test]
fn a_sharded_directory_without_one_of_its_shards() {
    let folder = Folder::new();
    let original = fixture("hugging_face_sharded");
    for entry in original.read_dir().unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("model-00002") {
            folder.write(&format!("hf/{name}"), std::fs::read(entry.path()).unwrap());
        }
    }
    assert_refused(&folder, "hf", None, &["model-00002-of-00003.safetensors"]);
}

#[test]
fn a_model_that_is_nowhere() {
    let folder = Folder::new();
    let said = ["models/mine", "no directory, no file;", "hf-hub:ORG/NAME"];
    assert_refused(&folder, "models/mine", None, &said);
    assert_refused(&folder, "nope.pt", None, &["`nope.pt` is no directory"]);
    // Only what may be a misspelt name is answered with all names.
    assert_refused(
        &folder,
        "ViT-B32",
        None,
        &["ViT-B32", "no preset", "ViT-B-32"],
    );
}

/// Names and contents of an archive whose entries are stored, not compressed.
fn zip_entries(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let u16_at = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let u32_at = |at: usize| u16_at(at) | u16_at(at + 2) << 16;
    let directory = bytes.windows(4).rposition(|w| w == b"PK\x01\x02").unwrap();
    let mut first = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let mut entries = Vec::new();
    while first <= directory {
        let (size, name, extra, comment) = (
            u32_at(first + 20),
            u16_at(first + 28),
            u16_at(first + 30),
            u16_at(first + 32),
        );
        let local = u32_at(first + 42);
        let start = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        let text = String::from_utf8(bytes[first + 46..first + 46 + name].to_vec()).unwrap();
        entries.push((text, bytes[start..start + size].to_vec()));
        first += 46 + name + extra + comment;
    }
    entries
}

/// An archive of stored entries.
fn zip(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in entries {
        let mut common = Vec::new();
        common.extend([20, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // version, flags, stored, time, date
        common.extend(crc32(content).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((content.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]); // no extra field
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]); // no comment, first disk, no attributes
        directory.extend((out.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(content);
    }
    let (start, count) = (out.len() as u32, (entries.len() as u16).to_le_bytes());
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([count, count].concat());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// What a name means does not depend on what lies in the working directory.
#[test]
fn a_file_that_is_called_like_an_architecture_is_named_by_its_path() {
    let folder = Folder::new();
    folder.write("tiny", "no model");
    folder.image("a.png", [20, 20], 1);
    let embed = |model: &str| {
        let line = format!("--model {model} --images a.png --out {}", model.len());
        folder.run("embed", &words(&line))
    };
    embed("tiny").succeeded().said(&["RANDOM"]);
    embed("./tiny").refused(&["./tiny", "neither a safetensors file"]);
}
