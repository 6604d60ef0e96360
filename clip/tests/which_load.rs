//! The table "Which checkpoints load" of docs/load-a-model.md, row by row: a row that is untrue fails, and so does a row
//! that nothing checks.

use burn_flex::Flex;
use clip::checkpoint::{HostTensor, StateDict, read_state_dict, write_safetensors};
use clip::{LoadOptions, Pretrained, VisionOptions, VisionTower};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Outcome = Result<(), String>;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn commands(name: &str) -> PathBuf {
    root("tests/fixtures/commands").join(name)
}

/// The checkpoint of the row, and whether it loads; if not, a part of the message.
fn table() -> Vec<(String, Option<String>)> {
    let text = std::fs::read_to_string(root("docs/load-a-model.md")).unwrap();
    let (_, section) = text.split_once("\n## Which checkpoints load\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let refusal = match cells[3] {
            "yes" => None,
            other => Some(
                other
                    .strip_prefix("no, says")
                    .expect(row)
                    .trim_matches([' ', '`'])
                    .into(),
            ),
        };
        (cells[1].to_string(), refusal)
    })
    .collect()
}

fn load(model: &Path, options: LoadOptions) -> Outcome {
    let model = model.to_str().unwrap();
    Pretrained::<Flex>::load(model, &options, &Default::default())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// The tiny vocabularies are not CLIP's.
fn tiny_words() -> LoadOptions {
    LoadOptions {
        tokenizer: Some(root("tests/fixtures/tokenizer_bert")),
        ..LoadOptions::default()
    }
}

fn bare(file: &str, config: &str) -> Outcome {
    let text = std::fs::read_to_string(commands(config)).unwrap();
    let mut model_cfg: Value = serde_json::from_str(&text).unwrap();
    model_cfg["quick_gelu"] = json!(file == "torchscript.pt"); // OpenAI's have no other
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let config = json!({"model_cfg": model_cfg, "preprocess_cfg": {}});
    std::fs::write(&path, config.to_string()).unwrap();
    let options = LoadOptions {
        config: Some(path.to_str().unwrap().into()),
        ..tiny_words()
    };
    load(&commands(file), options)
}

/// A directory of open_clip.
fn directory(config: &Value, weights: &StateDict) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "model_cfg": config });
    std::fs::write(
        folder.path().join("open_clip_config.json"),
        config.to_string(),
    )
    .unwrap();
    write_safetensors(&folder.path().join("open_clip_model.safetensors"), weights).unwrap();
    load(folder.path(), tiny_words())
}

/// Configuration and weights of a model of the parity tests.
fn reference(name: &str) -> (Value, StateDict) {
    let path = root("tests/fixtures/towers").join(format!("{name}.safetensors"));
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let config = &header.metadata().as_ref().unwrap()["model_cfg"];
    let own = |name: &str| name.strip_prefix("model.").map(Into::into);
    let dict = read_state_dict(&path).unwrap().rename(own);
    (serde_json::from_str(config).unwrap(), dict)
}

fn reference_directory(name: &str) -> Outcome {
    let (config, dict) = reference(name);
    directory(&config, &dict)
}

/// A directory of open_clip of which only the configuration matters.
fn refused(vision: Value, text: Value, more: Value) -> Outcome {
    let mut config = json!({"embed_dim": 512, "vision_cfg": vision, "text_cfg": text});
    for (name, value) in more.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    directory(
        &config,
        &StateDict::from_iter([("x".into(), HostTensor::from_values(vec![1.0], [1]))]),
    )
}

fn timm(name: &str) -> Outcome {
    refused(
        json!({"timm_model_name": name, "timm_pool": "token", "timm_proj": null}),
        json!({}),
        json!({}),
    )
}

fn clips() -> Outcome {
    let (mut config, mut dict) = reference("clipa");
    let table = HostTensor::from_values(vec![0.1; 300 * 16], [300, 16]);
    dict.insert("text.token_embedding.weight", table);
    config["text_cfg"]["vocab_size"] = json!(300);
    config["text_cfg"]["context_length"] = json!(80);
    config["text_cfg"]["hf_tokenizer_name"] = json!("bert-base-uncased");
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"model_cfg": config});
    std::fs::write(
        folder.path().join("open_clip_config.json"),
        config.to_string(),
    )
    .unwrap();
    write_safetensors(&folder.path().join("open_clip_model.safetensors"), &dict).unwrap();
    let vocabulary = root("tests/fixtures/tokenizer_bert/vocab.txt");
    std::fs::copy(vocabulary, folder.path().join("vocab.txt")).unwrap();
    let path = folder.path().to_str().unwrap();
    let model = Pretrained::<Flex>::load(path, &LoadOptions::default(), &Default::default())
        .map_err(|error| error.to_string())?;
    let row = model.tokenizer.batch(&["a cat"]).unwrap().ids;
    // CLIPS's framing: it opens with 1, and the class token stands last.
    assert_eq!((row.len(), row[0], row[79]), (80, 1, 101));
    Ok(())
}

/// EVA-02's weights under EVA-CLIP's names; those of LLM2CLIP have no text tower.
fn eva_clip(llm2clip: bool) -> Outcome {
    let (config, dict) = reference("eva02");
    let renames = [
        ("visual.trunk.", "visual."),
        ("attn.norm.", "attn.inner_attn_ln."),
        ("attn.q_proj.bias", "attn.q_bias"),
        ("attn.v_proj.bias", "attn.v_bias"),
        ("mlp.fc1_g.", "mlp.w1."),
        ("mlp.fc1_x.", "mlp.w2."),
        ("mlp.norm.", "mlp.ffn_ln."),
        ("mlp.fc2.", "mlp.w3."),
    ];
    let dict = dict.rename(|name| {
        let renamed = renames
            .iter()
            .fold(name.to_string(), |name, (from, to)| name.replace(from, to));
        (!llm2clip || !name.starts_with("text.")).then_some(renamed)
    });
    let folder = tempfile::tempdir().unwrap();
    let (weights, json) = (
        folder.path().join("eva.safetensors"),
        folder.path().join("eva.json"),
    );
    write_safetensors(&weights, &dict).unwrap();
    std::fs::write(&json, config.to_string()).unwrap();
    let options = LoadOptions {
        config: Some(json.to_str().unwrap().into()),
        ..tiny_words()
    };
    if !llm2clip {
        return load(&weights, options);
    }
    let options = VisionOptions {
        model: options,
        head: None,
    };
    VisionTower::<Flex>::load(weights.to_str().unwrap(), &options, &Default::default())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

/// A ResNet under the names that open_clip writes. Only the shapes come from the reference.
fn resnet() -> Outcome {
    let path = root("tests/fixtures/towers/resnet.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    let shapes: BTreeMap<String, Vec<usize>> =
        serde_json::from_str(&metadata["state_dict"]).unwrap();
    let dict = shapes.into_iter().map(|(name, shape)| {
        let values = vec![0.1; shape.iter().product()];
        (name, HostTensor::from_values(values, shape))
    });
    let config = serde_json::from_str(&metadata["model_cfg"]).unwrap();
    directory(&config, &dict.collect())
}

/// A Hugging Face directory with another `model_type`.
fn hugging_face(kind: &str) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let config = json!({"model_type": kind, "vision_config": {}, "text_config": {}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    load(folder.path(), LoadOptions::default())
}

type Check = Box<dyn Fn() -> Outcome>;

fn checks() -> BTreeMap<&'static str, Check> {
    let models = |name: &str| root("tests/fixtures/models").join(name);
    let checks: Vec<(&str, Check)> = vec![
        (
            "open_clip: its own vision transformers",
            Box::new(|| reference_directory("base")),
        ),
        (
            "open_clip: CLIPA",
            Box::new(|| reference_directory("clipa")),
        ),
        (
            "open_clip: SigLIP, SigLIP 2",
            Box::new(move || load(&models("siglip_open_clip"), LoadOptions::default())),
        ),
        (
            "open_clip: EVA-02 B/16, L/14",
            Box::new(|| reference_directory("eva02")),
        ),
        (
            "open_clip: a bare file",
            Box::new(|| {
                bare("open_clip.pt", "open_clip.json")
                    .and(bare("f16.safetensors", "open_clip.json"))
            }),
        ),
        ("open_clip: ResNet", Box::new(resnet)),
        (
            "open_clip: EVA-01, EVA-02 E/14",
            Box::new(|| {
                timm("eva02_enormous_patch14_clip_224").and(timm("eva_giant_patch14_clip_224"))
            }),
        ),
        (
            "open_clip: ConvNeXt, ViTamin, MobileCLIP, PE",
            Box::new(|| timm("convnext_base")),
        ),
        (
            "open_clip: text towers of Hugging Face",
            Box::new(|| {
                refused(
                    json!({}),
                    json!({"hf_model_name": "xlm-roberta-base"}),
                    json!({}),
                )
            }),
        ),
        (
            "open_clip: CoCa",
            Box::new(|| {
                refused(
                    json!({}),
                    json!({}),
                    json!({"multimodal_cfg": {"width": 512}}),
                )
            }),
        ),
        (
            "OpenAI",
            Box::new(|| bare("torchscript.pt", "open_clip.json")),
        ),
        ("CLIPS", Box::new(clips)),
        (
            "Hugging Face `CLIPModel`",
            Box::new(|| {
                load(&commands("hugging_face"), tiny_words())
                    .and(load(&commands("hugging_face_sharded"), tiny_words()))
            }),
        ),
        (
            "Hugging Face `SiglipModel`",
            Box::new(|| {
                load(
                    &root("tests/fixtures/models/siglip_hugging_face"),
                    LoadOptions::default(),
                )
            }),
        ),
        (
            "Hugging Face `Siglip2Model` (NaFlex)",
            Box::new(|| hugging_face("siglip2")),
        ),
        (
            "Hugging Face, other models",
            Box::new(|| hugging_face("align")),
        ),
        ("EVA-CLIP: EVA-02 B/16, L/14", Box::new(|| eva_clip(false))),
        ("LLM2CLIP: EVA-02", Box::new(|| eva_clip(true))),
        ("LaCLIP", Box::new(|| bare("laclip.pt", "laclip.json"))),
        ("SLIP", Box::new(|| bare("slip.pt", "slip.json"))),
    ];
    checks.into_iter().collect()
}

#[test]
fn every_row_of_the_table_is_true() {
    let checks = checks();
    let rows = table();
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    for name in checks.keys() {
        assert!(names.contains(name), "no row says `{name}`");
    }
    assert_eq!(rows.len(), checks.len(), "{names:?}");
    for (name, refusal) in rows {
        let check = checks
            .get(name.as_str())
            .unwrap_or_else(|| panic!("nothing checks the row `{name}`"));
        match (check(), refusal) {
            (Ok(()), None) => {}
            (Err(message), Some(part)) => assert!(message.contains(&part), "{name}: {message}"),
            (Ok(()), Some(_)) => panic!("{name} loads, and the table says it does not"),
            (Err(message), None) => panic!("{name}: {message}"),
        }
    }
}
