//! Two and four processes train as one does with the whole batch.

use crate::command::{Folder, words};
use crate::launch::{RECIPE, difference, train, weights};
use clip_burn::clip::checkpoint::StateDict;

/// All weights that a run has left.
fn trained(folder: &Folder, run: &str) -> Vec<(&'static str, StateDict)> {
    let files = [
        "open_clip_model.safetensors",
        "captioner.safetensors",
        "model.safetensors",
    ];
    let there = files
        .into_iter()
        .filter(|file| folder.path(&format!("{run}/model/{file}")).is_file());
    let read = |file: &'static str| (file, weights(folder, &format!("{run}/model/{file}")));
    let found: Vec<_> = there.map(read).collect();
    assert!(!found.is_empty(), "{run} has left no weights");
    found
}

/// One process with the whole batch against two and four with their shares of it, for {plain, accumulated and replayed} ×
/// {each its own rows of the loss, each the whole}.
fn processes_agree(folder: &Folder, method: &str) {
    let mut worst: f32 = 0.0;
    for (kind, way) in ["", "run.accumulate=2 run.replay=true"].iter().enumerate() {
        let batch = 8 / (1 + kind);
        let one = format!("one{kind}");
        let line = format!("{method} {way} run.out={one} data.loader.batch_size={batch}");
        train(folder, 1, &line).succeeded();
        let want = trained(folder, &one);
        for (processes, more) in [
            (2, "run.local_loss=true"),
            (2, "run.local_loss=false"),
            (4, "run.shard_optimizer=true"),
        ] {
            let out = format!("{processes}{kind}{}", more.replace('.', "-"));
            let share = batch / processes;
            let line =
                format!("{method} {way} {more} run.out={out} data.loader.batch_size={share}");
            train(folder, processes, &line).succeeded();
            for ((file, got), (_, want)) in trained(folder, &out).iter().zip(&want) {
                let (largest, name) = difference(got, want);
                assert!(
                    largest <= 1e-6,
                    "{processes} processes, {way} {more}: {file} {name} differs by {largest:e}"
                );
                worst = worst.max(largest);
            }
        }
    }
    println!("largest difference after 20 steps: {worst:e}");
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("recipe.toml", RECIPE);
    folder
}

#[test]
fn processes_train_clip_as_one_does() {
    processes_agree(&folder(), "");
}

#[test]
fn processes_train_laclip_on_many_texts_as_one_does() {
    let method = r#"method={name="laclip",rewrites=3,multi_text="all-texts"}"#;
    processes_agree(&folder(), method);
}

#[test]
fn processes_train_clips_with_its_captioner_as_one_does() {
    let folder = folder();
    let recipe =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../clips/recipes/scenes.toml");
    let tokenizer = recipe
        .with_file_name("scenes_vocab.txt")
        .display()
        .to_string();
    let method = format!(
        r#"model={{name="scenes-clips",tokenizer="{tokenizer}"}} method={{name="clips",texts=["web","partial"],reduction={{strategy="sub-caption"}},captioner={{width=16,layers=1,heads=2,queries=72}}}}"#
    );
    processes_agree(&folder, &method);
}

#[test]
fn processes_train_a_tower_against_stored_vectors_as_one_does() {
    let folder = folder();
    let llm = tests::fixture("llm/encoder/cc").display().to_string();
    let line = format!("--llm {llm} --input recipe.toml --fields web,synthetic --out store");
    folder.run("embed_captions", &words(&line)).succeeded();
    processes_agree(&folder, r#"method={name="llm2clip",stores=["store"]}"#);
}
