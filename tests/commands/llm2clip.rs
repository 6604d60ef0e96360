//! LLM2CLIP from shards to embeddings, and what is refused on the way.

use crate::command::{Folder, words};
use crate::features::Features;
use clip_burn::data::store::Store;
use clip_burn::data::webdataset::{EmbeddingShards, ShardConfig, ShardSource};
use clip_burn::data::{CaptionField, CaptionKind, Source};
use std::time::Duration;

fn llm() -> String {
    tests::fixture("llm/encoder/cc").display().to_string()
}

/// A folder with shards of 12 scenes and a recipe that trains a tiny tower on them.
fn folder(seed: u64, llm: &str) -> Folder {
    let folder = Folder::new();
    scenes(&folder, seed);
    let recipe = format!(
        "[run]\nsteps = 2\nout = \"run\"\n[model]\nname = \"tiny\"\n[method]\nname = \"llm2clip\"\n{llm}\
         stores = [\"store\"]\n[schedule]\nwarmup = 0\n[data.loader]\nbatch_size = 4\nworkers = 1\n[[data.sources]]\n\
         kind = \"webdataset\"\nshards = \"shards/{{00000..00002}}.tar\"\n\
         json_fields = [{{ field = \"synthetic\", kind = \"synthetic\" }}]\n"
    );
    folder.write("recipe.toml", recipe);
    folder
}

fn scenes(folder: &Folder, seed: u64) {
    let line = format!(
        "--format webdataset --split train --images 12 --image-size 24 --shard-size 5 --seed {seed} --out shards"
    );
    folder.run("scenes", &words(&line)).succeeded();
}

fn embed_captions(folder: &Folder, input: &str, more: &str) -> crate::command::Outcome {
    let line = format!("--llm {} --input {input} {more}", llm());
    folder.run("embed_captions", &words(&line))
}

#[test]
fn captions_become_vectors_a_trained_model_and_embeddings() {
    let folder = folder(0, &format!("llm = \"{}\"\n", llm()));
    let made = embed_captions(
        &folder,
        "recipe.toml",
        "--fields web,synthetic --part 5 --out store",
    );
    made.succeeded().said(&["12 samples", "24 vectors made"]);
    let again = embed_captions(
        &folder,
        "shards/{00000..00002}.tar",
        "--fields web,synthetic --part 5 --out store",
    );
    again.succeeded().said(&["0 vectors made"]);
    folder
        .run("train", &["--recipe", "recipe.toml"])
        .succeeded();
    folder.write("texts.txt", "a red circle\ntwo blue squares\n");
    folder.image("a.png", [24, 24], 1);
    let line = "--model run/model --texts texts.txt --images a.png --out out.safetensors";
    folder.run("embed", &words(line)).succeeded();
    let features = Features::read(&folder.path("out.safetensors"));
    for name in ["image_features", "text_features"] {
        let values = features.values(name);
        let norm: f32 = values.iter().map(|x| x * x).sum();
        let rows = if name == "image_features" { 1.0 } else { 2.0 };
        assert!((norm - rows).abs() < 1e-3, "{name}: {norm}");
    }
    let line = "--model run/model --images a.png --labels red blue --json";
    let said = folder.run("classify", &words(line)).succeeded().stdout;
    assert!(said.contains("probability"), "{said}");
    // Prompts and captions of any language go through the language model, the model's own or one that is given.
    let colours = |i: u8| {
        format!(
            "classes/val/{}/{i}.png",
            ["red", "blue"][usize::from(i % 2)]
        )
    };
    for i in 0..4 {
        folder.image(&colours(i), [24, 24], u32::from(i));
    }
    let zero_shot =
        "zero-shot --model run/model --dataset folder --root classes --templates openai80";
    folder
        .run("eval", &words(&format!("{zero_shot} --output in.json")))
        .succeeded();
    let given = format!("{zero_shot} --llm {} --output given.json", llm());
    folder.run("eval", &words(&given)).succeeded();
    let result = |file: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.path(file)).unwrap()).unwrap()
    };
    assert_eq!(
        result("in.json")["metrics"],
        result("given.json")["metrics"]
    );
    assert_eq!(result("in.json")["details"]["prompts"]["prompts"], 160);
    assert_eq!(
        result("given.json")["details"]["provenance"]["options"]["llm"],
        llm()
    );
    folder.image("xm/images/a.jpg", [24, 24], 1);
    let captions = |text: &str| serde_json::json!({ "caption": [text] });
    let line = serde_json::json!({ "image/key": "a", "de": captions("ein roter Kreis"), "ja": captions("赤い丸") });
    folder.write("xm/captions.jsonl", format!("{line}\n"));
    let line = "retrieval --model run/model --format xm3600 --annotations xm/captions.jsonl --images xm/images \
                --language de,ja --output {language}.json";
    folder.run("eval", &words(line)).succeeded();
    assert_eq!(result("ja.json")["metrics"]["text_retrieval_recall@1"], 1.0);
    assert_eq!(result("de.json")["language"], "de");
    // The texts of the model, and the language model by itself: the adapter is between them.
    let line = "--format karpathy --split test --images 12 --image-size 24 --out r";
    folder.run("scenes", &words(line)).succeeded();
    let task = "caption-retrieval --format karpathy --annotations r/dataset_scenes.json";
    let line = format!("{task} --model run/model --output texts.json");
    folder.run("eval", &words(&line)).succeeded();
    let line = format!("{task} --llm {} --output llm.json", llm());
    folder.run("eval", &words(&line)).succeeded();
    for name in ["texts.json", "llm.json"] {
        let found = result(name);
        assert_eq!(found["task"], "caption_retrieval", "{name}");
        assert_eq!(found["details"]["texts"], 24, "{name}");
        assert_eq!(found["metrics"].as_object().unwrap().len(), 5, "{name}");
    }
    let [texts, alone] =
        ["texts.json", "llm.json"].map(|name| result(name)["details"]["provenance"].clone());
    assert_eq!(alone["model"], llm());
    assert_ne!(texts["identity"], alone["identity"]);
    // A language model beside a CLIP, and one of another kind beside this model.
    let clip = folder.run(
        "classify",
        &words(&format!(
            "--model tiny --llm {} --images a.png --labels a",
            llm()
        )),
    );
    clip.refused(&["no LLM2CLIP model"]);
    let other = tests::fixture("llm/llama3").display().to_string();
    let line = format!("--model run/model --llm {other} --images a.png --labels a");
    folder.run("classify", &words(&line)).refused(&["llama3"]);
}

#[test]
fn without_a_language_model_stored_captions_are_the_only_texts() {
    let folder = folder(0, "");
    folder.write("texts.txt", "a red circle\na blue square\n");
    embed_captions(&folder, "recipe.toml", "--fields web,synthetic --out store").succeeded();
    folder
        .run("train", &["--recipe", "recipe.toml"])
        .succeeded();
    let embed = words("--model run/model --texts texts.txt --out out.safetensors");
    folder
        .run("embed", &embed)
        .refused(&["a red circle", "`llm`"]);
    let (config, fields) = (shards(None), ["web".to_string()]);
    let source = ShardSource::open(ShardConfig {
        root: Some(folder.path("")),
        ..config
    })
    .unwrap();
    let caption = source.get(3).unwrap().captions.named()[0].1.to_string();
    assert_eq!(
        fields,
        [source.get(3).unwrap().captions.named()[0].0.clone()]
    );
    folder.write("texts.txt", caption);
    folder.run("embed", &embed).succeeded();
}

#[test]
fn changed_captions_and_other_models_are_refused_by_name() {
    let folder = folder(0, "");
    embed_captions(&folder, "recipe.toml", "--fields web,synthetic --out store").succeeded();
    std::fs::remove_dir_all(folder.path("shards")).unwrap();
    scenes(&folder, 1);
    let train = folder.run("train", &["--recipe", "recipe.toml"]);
    train.refused(&[
        "another one than the one that was embedded",
        "embed_captions",
    ]);
    let again = embed_captions(&folder, "recipe.toml", "--fields web,synthetic --out store");
    again.refused(&["00000.safetensors", "another caption of"]);
    let other = tests::fixture("llm/llama3").display().to_string();
    let set = format!("method.llm={other}");
    folder
        .run("train", &["--recipe", "recipe.toml", "--set", &set])
        .refused(&["llama3"]);
    let missing = embed_captions(
        &folder,
        "recipe.toml",
        "--fields shortSV_captions --out new",
    );
    missing.refused(&["shortSV_captions", "web, synthetic"]);
}

fn shards(embeddings: Option<EmbeddingShards>) -> ShardConfig {
    ShardConfig {
        json_fields: vec![CaptionField::new("synthetic", CaptionKind::Synthetic)],
        embeddings,
        ..ShardConfig::new("shards/{00000..00002}.tar")
    }
}

#[test]
fn tars_hold_the_vectors_of_the_store_and_are_kept() {
    let folder = folder(0, "");
    let pattern = "shards/{00000..00002}.tar";
    embed_captions(&folder, pattern, "--fields web,synthetic --out store").succeeded();
    let tar = "--fields web,synthetic --format tar";
    embed_captions(&folder, pattern, tar)
        .succeeded()
        .said(&["3 tars of 12 samples; 24 vectors"]);
    embed_captions(&folder, pattern, tar)
        .succeeded()
        .said(&["0 vectors made"]);
    let embeddings = EmbeddingShards {
        fields: ["web", "synthetic"].map(String::from).to_vec(),
        ..EmbeddingShards::default()
    };
    let config = ShardConfig {
        root: Some(folder.path("")),
        ..shards(Some(embeddings))
    };
    let source = ShardSource::open(config).unwrap();
    let store = Store::open(&folder.path("store")).unwrap();
    assert_eq!(source.len(), 12);
    for index in 0..12 {
        let sample = source.get(index).unwrap();
        let stored = sample.embeddings.unwrap();
        for (name, caption) in sample.captions.named() {
            let expected = store.find(caption).unwrap().unwrap();
            let got = stored.read(&name).unwrap();
            let off = got
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(off < 1e-4, "{name} of {}: {off}", sample.key);
        }
    }
}

/// Kills of an extraction; `LLM2CLIP_KILLS` makes it another number.
#[test]
fn an_extraction_that_is_killed_again_and_again_leaves_no_gap_and_no_double() {
    let kills = std::env::var("LLM2CLIP_KILLS").map_or(6, |kills| kills.parse().unwrap());
    let folder = folder(0, "");
    let part = |out: &str| format!("--fields web,synthetic --part 1 --batch-size 1 --out {out}");
    embed_captions(&folder, "recipe.toml", &part("whole")).succeeded();
    for kill in 0..kills {
        let line = format!("--llm {} --input recipe.toml {}", llm(), part("store"));
        let start = std::time::Instant::now();
        let wait = Duration::from_millis(20 + 37 * kill % 400);
        if folder.path("store/store.json").is_file() {
            std::fs::remove_dir_all(folder.path("store")).unwrap();
        }
        folder.kill_or_end("embed_captions", &words(&line), || start.elapsed() > wait);
        // What is there is whole.
        for entry in folder.path("store").read_dir().into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "safetensors") {
                let bytes = std::fs::read(&path).unwrap();
                safetensors::SafeTensors::deserialize(&bytes).unwrap();
            }
        }
    }
    embed_captions(&folder, "recipe.toml", &part("store")).succeeded();
    let names = |folder: &Folder, store: &str| {
        let entries = folder.path(store).read_dir().unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !name.to_string_lossy().ends_with(".partial"));
        names.sort();
        names
    };
    assert_eq!(names(&folder, "store"), names(&folder, "whole"));
    for name in names(&folder, "whole") {
        let read = |store: &str| std::fs::read(folder.path(store).join(&name)).unwrap();
        assert_eq!(read("store"), read("whole"), "{name:?}");
    }
}
