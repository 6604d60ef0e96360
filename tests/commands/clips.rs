//! CLIPS as a user runs it: train, go on at a higher resolution, caption, evaluate; recipes; the release's directories.

use crate::command::{Folder, words};
use crate::features::{Features, assert_close};
use clip_burn::clip::checkpoint::{StateDict, read_state_dict};
use clip_burn::clip::nn::sin_cos_2d_moco;
use clip_burn::clip::tokenizer::{Tokenizer, TokenizerConfig, TokenizerMode};
use clip_burn::clips::{Decoder, Options};
use clip_burn::train::{DataTable, ModelTable, Recipe, SourceConfig};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn recipe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../clips/recipes")
        .join(name)
}

/// A few steps of the recipe for scenes, made small.
fn train(folder: &Folder, out: &str, changes: &[&str]) {
    let path = recipe("scenes.toml").display().to_string();
    let mut line = vec!["--recipe".to_string(), path];
    let out = format!("run.out={}", folder.path(out).display());
    let small = [
        &out,
        "run.steps=2",
        "schedule.warmup=1",
        "data.loader.batch_size=4",
        "log.progress=false",
        "method.captioner={width=16,layers=1,heads=2,queries=72}",
    ];
    for setting in small.iter().chain(changes) {
        line.extend(["--set".to_string(), setting.to_string()]);
    }
    folder.run("train", &line).succeeded();
}

fn weights(folder: &Folder, path: &str) -> StateDict {
    read_state_dict(&folder.path(path)).unwrap()
}

#[test]
fn a_run_goes_on_at_a_higher_resolution_with_its_captioner() {
    let folder = Folder::new();
    train(&folder, "small", &[]);
    let name = format!("model.name={}", folder.path("small/model").display());
    let still = ["optimizer.lr=1e-30", "run.logit_scale_range=[]"];
    train(
        &folder,
        "large",
        &[&name, "model.image_size=64", still[0], still[1]],
    );

    let file = "model/open_clip_model.safetensors";
    let of = |run: &str, file: &str| weights(&folder, &format!("{run}/{file}"));
    let (small, large) = (of("small", file), of("large", file));
    assert_eq!(small.len(), large.len());
    for (name, before) in small.iter() {
        let after = large.get(name).unwrap();
        match name {
            "visual.positional_embedding" => {
                assert_eq!(after.shape(), [65, 128]);
                assert_eq!(after.values(), sin_cos_2d_moco(128, 8));
                assert_eq!(before.values(), sin_cos_2d_moco(128, 6));
            }
            _ => assert!(before.values() == after.values(), "{name}"),
        }
    }
    let file = "model/captioner.safetensors";
    let (small, large) = (of("small", file), of("large", file));
    assert!(small.len() > 15);
    for (name, before) in small.iter() {
        assert!(
            before.values() == large.get(name).unwrap().values(),
            "{name}"
        );
    }

    // Another captioner, or none, is not taken without a word.
    let path = recipe("scenes.toml").display().to_string();
    let other = ["--recipe", &path, "--set", &name, "--set", "run.out=other"];
    let said = [
        "the model directory has a captioner",
        "width: 16",
        "width: 64",
        "captioner.json",
    ];
    folder.run("train", &other).refused(&said);
}

#[test]
fn images_are_captioned_and_captions_are_scored() {
    let folder = Folder::new();
    train(&folder, "run", &[]);
    let scenes = "--format webdataset --split test --images 6 --image-size 48 --out shards";
    folder.run("scenes", &words(scenes)).succeeded();
    folder.image("images/a.png", [50, 40], 1);
    folder.write("images/b.png", "no image");

    let caption = |more: &str| {
        let line = format!("--model run/model --images images {more}");
        folder.run("caption", &words(&line))
    };
    let said = caption("--json --temperature 1 --top-p 0.9 --seed 3");
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    let line: Value = serde_json::from_str(said.stdout.trim()).unwrap();
    assert!(line["image"].as_str().unwrap().ends_with("a.png"));
    assert!(!line["caption"].as_str().unwrap().is_empty(), "{line}");
    let again = caption("--json --temperature 1 --top-p 0.9 --seed 3");
    assert_eq!(said.stdout, again.stdout, "a seed says the same");
    caption("--top-p 0").refused(&["--top-p: ", "not 0"]);

    let of_shards = "caption --model run/model --shards {00000..00000}.tar --images shards";
    for shown in ["own", "another", "nothing"] {
        let line = format!("{of_shards} --shown {shown} --output {shown}.json");
        folder.run("eval", &words(&line)).succeeded();
        let result = std::fs::read(folder.path(&format!("{shown}.json"))).unwrap();
        let result: Value = serde_json::from_slice(&result).unwrap();
        assert_eq!(result["task"], "image_captioning");
        for metric in ["bleu4", "cider_d", "token_acc"] {
            assert!(result["metrics"][metric].is_number(), "{result}");
        }
        assert_eq!(result["details"]["captions"].as_array().unwrap().len(), 6);
    }
    let line = format!("{of_shards} --field nothing");
    folder
        .run("eval", &words(&line))
        .refused(&["`nothing`", ".json"]);
    let report = "report own.json another.json --output report.html";
    folder.run("eval", &words(report)).succeeded();
    let page = std::fs::read_to_string(folder.path("report.html")).unwrap();
    for part in ["Captions: ", "BLEU-4", "data:image/jpeg"] {
        assert!(page.contains(part), "{part}");
    }

    // The same directory embeds and classifies as any other.
    let line = "--model run/model --images images/a.png --labels red blue green pink";
    folder.run("classify", &words(line)).succeeded();
    let without = folder.run("caption", &words("--model tiny --images images/a.png"));
    without.refused(&["no captioner", "[method.captioner]"]);
}

#[test]
fn damaged_captioners_are_named() {
    let folder = Folder::new();
    train(&folder, "run", &[]);
    let good = std::fs::read_to_string(folder.path("run/model/captioner.json")).unwrap();
    folder.image("x.png", [8, 8], 1);
    let refused = |said: &[&str]| {
        let line = words("--model run/model --images x.png");
        folder.run("caption", &line).refused(said);
    };
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{good}");
        folder.write("run/model/captioner.json", good.replace(from, to));
    };
    folder.write("run/model/captioner.json", "{");
    refused(&["captioner.json"]);
    with("\"heads\": 2", "\"heads\": 3");
    refused(&["captioner.json", "heads = 3"]);
    with("\"image_width\": 128", "\"image_width\": 64");
    refused(&["captioner.json", "64", "128"]);
    with("\"layers\": 1", "\"layers\": 2");
    refused(&["captioner.safetensors", "transformer.resblocks.1"]);
    with("\"layers\": 1", "\"layers\": 1");
    folder.write("run/model/captioner.safetensors", "short");
    refused(&["captioner.safetensors"]);
}

/// Section 6.1 of the specification: samples per stage, batch, and peak rates of base · batch / 256.
#[test]
fn recipes_of_the_curriculum_say_what_openvision_says() {
    for (name, batch, steps, lr, warmup, size) in [
        ("recap_l14_84", 32_768, 390_981, 8e-6, 1563, 84),
        ("recap_l14_224", 16_384, 62_556, 4e-7, 1563, 224),
        ("recap_l14_336", 8_192, 31_278, 1e-7, 0, 336),
    ] {
        let mut recipe = Recipe::load(&recipe(&format!("{name}.toml")), &[]).unwrap();
        let method: Options = recipe.section().unwrap();
        let captioner = method.captioner.unwrap();
        let shape = (
            captioner.width,
            captioner.layers,
            captioner.heads,
            captioner.queries,
        );
        assert_eq!(shape, (768, 12, 12, 128));
        assert_eq!(captioner.decoder, Decoder::LearnableQueries);
        assert_eq!(
            (method.contrastive_weight, method.caption_weight),
            (1.0, 2.0)
        );
        let data: DataTable = recipe.section().unwrap();
        assert_eq!(data.loader.batch_size * recipe.run.accumulate, batch);
        assert_eq!(recipe.run.steps, Some(steps));
        let optimizer = &recipe.optimizer;
        assert!(
            (optimizer.lr - lr * batch as f64 / 256.0).abs() < 1e-12,
            "{name}"
        );
        assert_eq!((optimizer.beta2, optimizer.weight_decay), (0.95, 0.2));
        assert_eq!(recipe.schedule.warmup, warmup);
        let model: ModelTable = recipe.section().unwrap();
        assert_eq!(model.image_size, Some(size));
        assert!(
            matches!(&data.sources[0], SourceConfig::Webdataset(shards) if shards.json_fields.len() == 1)
        );
    }
}

/// The golden ids of section 5.4, from a vocabulary with these pieces at their places.
#[test]
fn texts_get_the_ids_of_the_release() {
    #[rustfmt::skip]
    let pieces = [
        (0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]"), (1000, "\""), (1005, "'"), (1010, ","),
        (1012, "."), (1017, "3"), (1019, "5"), (1037, "a"), (1055, "s"), (1056, "t"), (1057, "u"), (1521, "’"), (1523, "“"),
        (1524, "”"), (1755, "京"), (1781, "北"), (1997, "of"), (2102, "##t"), (2123, "don"), (2773, "word"), (3899, "dog"),
        (4937, "cat"), (6302, "photo"), (6363, "dollars"), (7668, "cafe"), (10177, "##gne"), (14686, "quote"),
        (15743, "naive"), (16403, "diagram"), (21388, "bei"),
    ];
    let mut vocabulary: Vec<String> = (0..30_522).map(|id| format!("[unused{id}]")).collect();
    pieces
        .iter()
        .for_each(|(id, piece)| vocabulary[*id] = piece.to_string());
    let folder = Folder::new();
    let path = folder.write("vocab.txt", vocabulary.join("\n"));
    let config = TokenizerConfig {
        context_length: 80,
        vocab_size: 32_000,
        hf_tokenizer_name: Some("bert-base-uncased".into()),
        tokenizer_mode: Some(TokenizerMode::Clips),
        ..TokenizerConfig::default()
    };
    let tokenizer = Tokenizer::from_file(&path, &config).unwrap();
    let many = "word ".repeat(200);
    let words = [vec![1], vec![2773; 77], vec![2]].concat();
    #[rustfmt::skip]
    let golden = [
        ("a diagram", vec![1, 1037, 16403, 2]),
        ("a dog", vec![1, 1037, 3899, 2]),
        ("a cat", vec![1, 1037, 4937, 2]),
        ("a beignet", vec![1, 1037, 21388, 10177, 2102, 2]),
        ("", vec![1, 2]),
        ("A photo of a CAFÉ, naïve 北京", vec![1, 1037, 6302, 1997, 1037, 7668, 1010, 15743, 1781, 1755, 2]),
        // The release's clean-up (ftfy) straightens the quotes; WordPiece alone gives 1521, 1523 and 1524.
        ("don’t “quote”", vec![1, 2123, 1005, 1056, 1000, 14686, 1000, 2]),
        ("3.5 U.S. dollars", vec![1, 1017, 1012, 1019, 1057, 1012, 1055, 1012, 6363, 2]),
        (&many, words),
    ];
    for (text, mut row) in golden {
        row.resize(79, 0);
        row.push(101);
        assert_eq!(tokenizer.batch(&[text]).unwrap().ids, row, "{text}");
    }
}

/// A look-alike of a released directory: a pickle, and no word of the framing. `CLIPS_DIRECTORY` names one made by
/// `tests/reference/clips_directory.py`, with its `expected.safetensors` beside it.
#[test]
#[ignore = "needs a directory of tests/reference/clips_directory.py, which CLIPS_DIRECTORY names, and a Python with open_clip"]
fn a_released_directory_gives_the_features_of_pytorch() {
    let model = std::env::var("CLIPS_DIRECTORY").expect("CLIPS_DIRECTORY names a directory");
    let path = Path::new(&model)
        .parent()
        .unwrap()
        .join("expected.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let texts = &header.metadata().as_ref().unwrap()["texts"];
    let texts: Vec<String> = serde_json::from_str(texts).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| {
        let values = file.tensor(name).unwrap().data().to_vec();
        let values = values
            .chunks_exact(4)
            .map(|value| f32::from_le_bytes(value.try_into().unwrap()));
        values.collect::<Vec<f32>>()
    };
    let folder = Folder::new();
    folder.write("texts.txt", texts.join("\n") + "\n");
    let pixels = file.tensor("pixels").unwrap();
    let side = pixels.shape()[1] as u32;
    for (i, pixels) in pixels
        .data()
        .chunks_exact((side * side * 3) as usize)
        .enumerate()
    {
        let image = image::RgbImage::from_raw(side, side, pixels.to_vec()).unwrap();
        image.save(folder.path(&format!("{i}.png"))).unwrap();
    }
    let embed = |model: &str, more: &str| {
        let line =
            format!("--model {model} --images 0.png 1.png --texts texts.txt --out out {more}");
        folder.run("embed", &words(&line)).succeeded();
        let features = Features::read(&folder.path("out"));
        std::fs::remove_file(folder.path("out")).unwrap();
        features
    };
    let ours = embed(&model, "");
    assert_close(
        "image",
        &ours.values("image_features"),
        &floats("image"),
        1e-5,
    );
    assert_close("text", &ours.values("text_features"), &floats("text"), 1e-5);

    // What is exported names the framing, and open_clip reads it.
    folder
        .run("convert", &["--from", &model, "--out", "exported"])
        .succeeded();
    let config = std::fs::read_to_string(folder.path("exported/open_clip_config.json")).unwrap();
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["model_cfg"]["text_cfg"]["tokenizer_mode"], "clips");
    let python = std::env::var("CLIP_BURN_PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference/commands_open_clip.py");
    let theirs = folder.path("theirs.safetensors");
    let arguments = ["exported", "0.png", "texts.txt"].map(|name| folder.path(name));
    let output = Command::new(python)
        .arg(script)
        .args(arguments.iter().chain([&theirs]))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs = read_state_dict(&theirs)
        .unwrap()
        .get("text_features")
        .unwrap()
        .values();
    let raw = embed("exported", "--no-normalize").values("text_features");
    let largest = theirs.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    assert_close("open_clip's texts", &raw, &theirs, 1e-5 * largest);
}
