//! `train`: killed and resumed, validated on the way, and what it refuses before a step is made.

use crate::command::{Folder, Outcome, words};
use burn::backend::Flex;
use clip_burn::clip::checkpoint::{HostTensor, read_state_dict, write_safetensors};
use clip_burn::clip::{LoadOptions, ModelConfig, Pretrained};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// LaCLIP on 40 scenes with every feature that could break a resume: five steps of two batches make an epoch.
const RECIPE: &str = r#"
[run]
out = "whole"
steps = 16
accumulate = 2
replay = true
ema = 0.9
[model]
name = "tiny"
[method]
name = "laclip"
rewrites = 4
patch_dropout = 0.2
[optimizer]
lr = 1e-3
[schedule]
warmup = 3
[data.loader]
batch_size = 4
workers = 2
[data.augment]
scale = [0.6, 1.0]
color_jitter = [0.3, 0.3, 0.3, 0.1]
color_jitter_prob = 0.5
[[data.sources]]
kind = "scenes"
world = { image_size = 32, train_size = 41, shapes = 2, colours = 3, max_objects = 1 }
[checkpoint]
every = 3
[log]
every = 1
"#;

fn with_recipe() -> Folder {
    let folder = Folder::new();
    folder.write("recipe.toml", RECIPE);
    folder
}

/// Trains; `changes` are overrides of the recipe, separated by spaces.
fn train(folder: &Folder, changes: &str) -> Outcome {
    folder.run("train", &arguments(changes))
}

fn arguments(changes: &str) -> Vec<String> {
    let mut line = words("--recipe recipe.toml");
    for change in changes.split_whitespace() {
        if change.contains('=') {
            line.push("--set".into());
        }
        line.push(change.into());
    }
    line
}

fn read(folder: &Folder, name: &str) -> Vec<u8> {
    let path = folder.path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The entries of a run's log, without what depends on the clock.
fn log(folder: &Folder, out: &str) -> Vec<Value> {
    let text = String::from_utf8(read(folder, &format!("{out}/metrics.jsonl"))).unwrap();
    let entry = |line: &str| {
        let mut entry: Value = serde_json::from_str(line).unwrap();
        entry.as_object_mut().unwrap().remove("speed");
        entry
    };
    text.lines().map(entry).collect()
}

/// Steps of a run's checkpoints, in order.
fn checkpoints(folder: &Folder, out: &str) -> Vec<u64> {
    let entries = folder.path(out).join("checkpoints").read_dir();
    let names = entries.into_iter().flatten().map(|e| e.unwrap().path());
    let step = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix("step_")?;
        name.parse().ok()
    };
    let mut steps: Vec<u64> = names.filter_map(step).collect();
    steps.sort();
    steps
}

/// Kills a run at a random step after its first checkpoint.
fn kill_after(folder: &Folder, changes: &str, out: &str, steps: u64) {
    let text = |name: &str| {
        let text = std::fs::read_to_string(folder.path(out).join(name));
        text.unwrap_or_default()
    };
    // What an earlier process logged says nothing of this one.
    let starts = || text("log.txt").matches("lr scale").count();
    let before = starts();
    folder.kill_when("train", &arguments(changes), || {
        let entries = text("metrics.jsonl").lines().count() as u64;
        starts() > before && entries >= steps && !checkpoints(folder, out).is_empty()
    });
    let entries = String::from_utf8(read(folder, &format!("{out}/metrics.jsonl"))).unwrap();
    println!(
        "killed after {} entries, with checkpoints of steps {:?}",
        entries.lines().count(),
        checkpoints(folder, out)
    );
}

fn assert_killed_equals_whole(more: &str) {
    assert_killed_equals_whole_in(&with_recipe(), more);
}

fn assert_killed_equals_whole_in(folder: &Folder, more: &str) {
    train(folder, more).succeeded();
    let whole = log(folder, "whole");
    assert_eq!(whole.len(), 16);

    let random = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .subsec_nanos() as u64;
    let killed = format!("{more} run.out=killed");
    let resume = format!("{killed} --resume latest");
    let first = 3 + random % 4;
    kill_after(folder, &killed, "killed", first);
    kill_after(folder, &resume, "killed", first + 2 + random / 7 % 4);
    train(folder, &resume)
        .succeeded()
        .said(&["resumed from", "at step"]);

    assert_eq!(log(folder, "killed"), whole);
    let captioner = "model/captioner.safetensors";
    let captioner = folder
        .path("whole")
        .join(captioner)
        .exists()
        .then_some(captioner);
    for file in captioner.into_iter().chain([
        "model/open_clip_model.safetensors",
        "model_ema/open_clip_model.safetensors",
        "checkpoints/step_00000016/model/open_clip_model.safetensors",
        "checkpoints/step_00000016/optimizer.safetensors",
        "checkpoints/step_00000016/ema.safetensors",
        "checkpoints/step_00000016/state.json",
    ]) {
        let of = |out: &str| read(folder, &format!("{out}/{file}"));
        assert!(of("killed") == of("whole"), "{file} differs");
    }
    let lines = String::from_utf8(read(folder, "killed/log.txt")).unwrap();
    assert_eq!(lines.matches("resumed from").count(), 2, "{lines}");
}

#[test]
fn a_run_that_is_killed_twice_equals_an_uninterrupted_one() {
    assert_killed_equals_whole("");
}

#[test]
fn plain_clip_without_cache_and_replay_resumes_alike() {
    assert_killed_equals_whole(
        "method={name=\"clip\"} run.accumulate=1 run.replay=false data.captions.rewrites=1",
    );
}

#[test]
fn all_texts_at_every_visit_resume_alike() {
    assert_killed_equals_whole("method.multi_text=\"per-slot\"");
}

#[test]
fn a_captioner_resumes_alike() {
    assert_killed_equals_whole(
        "method={name=\"clips\",captioner={width=16,layers=1,heads=2,queries=12,decoder=\"autoregressive\"}}",
    );
}

#[test]
fn a_resnet_resumes_alike_and_keeps_its_statistics() {
    let folder = with_recipe();
    resnet(&folder, "resnet", true);
    let plain = "model.name=resnet method={name=\"clip\"} data.captions.rewrites=1";
    assert_killed_equals_whole_in(&folder, plain);

    let values = |model: &str, name: &str| {
        let path = folder.path(model).join("open_clip_model.safetensors");
        read_state_dict(&path).unwrap().get(name).unwrap().values()
    };
    for norm in ["bn2", "layer1.0.bn1", "layer4.0.downsample.1"] {
        for (part, kept) in [
            ("running_mean", true),
            ("running_var", true),
            ("weight", false),
            ("bias", false),
        ] {
            let name = format!("visual.{norm}.{part}");
            let before = values("resnet", &name);
            for after in ["whole/model", "whole/model_ema"] {
                assert_eq!(values(after, &name) == before, kept, "{after} {name}");
            }
        }
    }
}

#[test]
fn what_a_resnet_cannot_do_is_refused() {
    let folder = with_recipe();
    resnet(&folder, "new", false);
    resnet(&folder, "old", true);
    let plain = "method={name=\"clip\"} data.captions.rewrites=1";
    train(&folder, &format!("model.name=new {plain}"))
        .refused(&["begin from a trained checkpoint"]);
    train(&folder, "model.name=old").refused(&["remove patch_dropout"]);
    train(
        &folder,
        &format!("model.name=old {plain} groups.image_layer_decay=0.5"),
    )
    .refused(&["image_layer_decay", "ResNet"]);
}

/// A tiny ResNet with random weights, and with statistics where it shall pass for a trained one.
fn resnet(folder: &Folder, name: &str, trained: bool) {
    let config = json!({
        "embed_dim": 8,
        "vision_cfg": {"layers": [1, 2, 1, 1], "width": 4, "head_width": 32, "image_size": 32},
        "text_cfg": {"width": 8, "heads": 2, "layers": 1, "context_length": 16},
    });
    let config = ModelConfig::from_json(&config).unwrap();
    let options = LoadOptions::default();
    let model = Pretrained::<Flex>::random(config, &options, &Default::default()).unwrap();
    let path = folder.path(name);
    model.save(&path).unwrap();
    if trained {
        let file = path.join("open_clip_model.safetensors");
        let seen = |(name, tensor): (String, HostTensor)| {
            let values = match name.ends_with("running_var") {
                true => vec![0.3; tensor.len()],
                false => tensor.values(),
            };
            (name, HostTensor::from_values(values, tensor.shape()))
        };
        let dict = read_state_dict(&file).unwrap().into_iter().map(seen);
        write_safetensors(&file, &dict.collect()).unwrap();
    }
}

#[test]
fn averaged_weights_are_a_model_of_their_own() {
    let folder = with_recipe();
    train(&folder, "run.steps=4").succeeded();
    let image = folder.image("image.png", [40, 40], 1);
    let mut answers = Vec::new();
    for model in ["whole/model", "whole/model_ema"] {
        let line = format!(
            "--model {model} --labels dog cat --images {}",
            image.display()
        );
        answers.push(folder.run("classify", &words(&line)).succeeded().stdout);
    }
    assert_ne!(answers[0], answers[1]);
    train(&folder, "run.steps=4 run.ema=0.9 run.out=again").succeeded();
    let average = |out: &str| {
        read(
            &folder,
            &format!("{out}/model_ema/open_clip_model.safetensors"),
        )
    };
    assert_eq!(average("whole"), average("again"));
}

/// Validation sets as `scenes` writes them, and a recipe that names them.
fn with_validation() -> Folder {
    let folder = Folder::new();
    let small =
        "--split validation --images 24 --image-size 32 --shapes 2 --colours 3 --max-objects 1";
    for (format, out) in [("imagenet", "classes"), ("karpathy", "pairs")] {
        let line = format!("--format {format} --out {out} {small}");
        folder.run("scenes", &words(&line)).succeeded();
    }
    folder.write(
        "recipe.toml",
        format!(
            r#"{RECIPE}
validate_every = 4
[[validation.zero_shot]]
name = "classes"
dataset = "folder"
root = "classes/images"
classnames = "classes/classnames.txt"
templates = "classes/templates.txt"
[[validation.retrieval]]
name = "pairs"
format = "karpathy"
annotations = "pairs/dataset_scenes.json"
images = "pairs/images"
recall_k = [1, 5]
"#
        ),
    );
    folder
}

#[test]
fn a_run_is_validated_on_the_way_and_its_best_checkpoint_kept() {
    let folder = with_validation();
    let changes = "checkpoint.best=pairs_image_retrieval_recall@5 checkpoint.keep=1";
    train(&folder, changes).succeeded();
    let log = log(&folder, "whole");
    let validated: Vec<&Value> = log.iter().filter(|e| e["kind"] == "validation").collect();
    let steps: Vec<u64> = validated
        .iter()
        .map(|e| e["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [4, 8, 12, 16]);
    for name in [
        "classes_acc1",
        "classes_acc5",
        "classes_mean_per_class_recall",
        "pairs_image_retrieval_recall@1",
        "pairs_text_retrieval_recall@5",
    ] {
        for entry in &validated {
            let value = entry["values"][name].as_f64();
            assert!(
                value.is_some_and(|v| (0.0..=1.0).contains(&v)),
                "{name} in {entry}"
            );
        }
    }
    // The best validation has its checkpoint although checkpoint.every leaves its step out.
    let value = |e: &&&Value| {
        e["values"]["pairs_image_retrieval_recall@5"]
            .as_f64()
            .unwrap()
    };
    let most = validated.iter().map(|e| value(&e)).fold(f64::MIN, f64::max);
    let best = validated.iter().find(|e| value(e) == most).unwrap();
    let best = best["step"].as_u64().unwrap();
    let mut expected = vec![best, 16];
    expected.dedup();
    let kept = checkpoints(&folder, "whole");
    // At the end a checkpoint that is as good as the best takes its place.
    assert!(
        kept == expected || (kept == [16] && value(&validated.last().unwrap()) == most),
        "{kept:?} in {validated:?}"
    );
    // The same numbers as by the `eval` example on the model that was written.
    let line = "retrieval --model whole/model --format karpathy --annotations pairs/dataset_scenes.json \
                --images pairs/images --split val --recall-k 1,5 --output result.json";
    folder.run("eval", &words(line)).succeeded();
    let result: Value = serde_json::from_slice(&read(&folder, "result.json")).unwrap();
    let last = &validated.last().unwrap()["values"];
    for name in ["image_retrieval_recall@1", "text_retrieval_recall@5"] {
        assert_eq!(last[format!("pairs_{name}")], result["metrics"][name]);
    }
}

#[test]
fn what_cannot_be_validated_is_refused_before_the_first_step() {
    let folder = with_validation();
    let refused = |changes: &str, said: &[&str]| {
        train(&folder, changes).refused(said);
        assert!(!folder.path("whole").exists(), "{changes}");
    };
    // What is no metric, or falls as a model gets better, is told apart from those that are there.
    for best in [
        "acc1",
        "classes_top1",
        "pairs_image_retrieval_recall@10",
        "pairs_image_retrieval_mean_rank",
    ] {
        refused(
            &format!("checkpoint.best={best}"),
            &[
                &format!("= \"{best}\""),
                "classes_acc1",
                "pairs_text_retrieval_recall@5",
            ],
        );
    }
    refused("validation.batchsize=3", &["[validation]", "batchsize"]);
    let zero_shot =
        |root: &str| format!("validation={{zero_shot=[{{dataset=\"folder\",root=\"{root}\"}}]}}");
    refused(&zero_shot("gone"), &["[validation]", "gone"]);
    refused(
        &zero_shot("pairs/images"),
        &["[validation]", "pairs/images"],
    );
    let pairs = "validation={retrieval=[{format=\"karpathy\",annotations=\"gone.json\"}]}";
    refused(pairs, &["[validation]", "gone.json"]);
    refused(
        "validation={} checkpoint.best=classes_acc1",
        &["checkpoint.best", "[[validation.zero_shot]]"],
    );
}

#[test]
fn recipes_that_contradict_themselves_are_refused() {
    let folder = with_recipe();
    let refused = |changes: &str, said: &[&str]| {
        train(&folder, changes).refused(said);
        assert!(!folder.path("whole").exists(), "{changes}");
    };
    refused(
        "data.captions.rewrites=1",
        &["method.rewrites", "[data.captions]"],
    );
    refused(
        "data.sources.0.rewrites=3",
        &["method.rewrites = 4", "scenes (train) has at most 3"],
    );
    refused(
        "data.sources.0.rewrites=0 method.multi_text=\"all-texts\"",
        &["method.rewrites = 4", "at most 0", "lower method.rewrites"],
    );
    refused("method.patch_dropout=1.5", &["method.patch_dropout = 1.5"]);
    refused("method.name=blip", &["blip", "laclip"]);
    refused("method.rewrite=4", &["[method]", "rewrite"]);
    refused("model.name=gone", &["[model]", "gone"]);
    refused("data.loader.batchsize=4", &["[data]", "batchsize"]);
    refused(
        "data.loader.batch_size=64",
        &["samples", "run.accumulate = 2"],
    );
    refused("schedule.warmup=99", &["warmup"]);
    refused("--resume nowhere", &["nowhere"]);
}

#[test]
fn a_run_goes_on_only_as_it_began() {
    let folder = with_recipe();
    train(&folder, "run.steps=6").succeeded();
    let before = log(&folder, "whole");
    // A new run would mix its checkpoints with those that are there.
    train(&folder, "run.steps=6").refused(&["step_00000006", "--resume latest", "run.out"]);
    train(&folder, "run.steps=6 optimizer.lr=0.5 --resume latest").refused(&[
        "optimizer.lr: 0.001 → 0.5",
        "Put its values back",
        "another run.out",
        "--accept-changes",
    ]);
    let other = "run.steps=6 data.loader.workers=1 data.loader.ahead=2 log.tensorboard=false";
    train(&folder, &format!("{other} --resume latest")).succeeded();
    assert_eq!(log(&folder, "whole"), before);

    let weights = folder.path("whole/checkpoints/step_00000006/model/open_clip_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    train(&folder, "run.steps=6 --resume latest")
        .succeeded()
        .said(&[
            "step_00000006 is damaged",
            "open_clip_model.safetensors",
            "step_00000003 at step 3",
        ]);
    assert_eq!(log(&folder, "whole"), before);
    assert_eq!(std::fs::read(&weights).unwrap(), bytes);
}

#[test]
fn a_run_goes_on_with_another_learning_rate_when_that_is_accepted() {
    let folder = with_recipe();
    train(&folder, "run.steps=6").succeeded();
    let changed = "run.steps=9 optimizer.lr=5e-4 --resume latest --accept-changes";
    train(&folder, changed).succeeded().said(&[
        "changed since: optimizer.lr: 0.001 → 0.0005",
        "changed since: run.steps: 6 → 9",
    ]);
    assert_eq!(log(&folder, "whole").len(), 9);
}

#[test]
fn a_run_of_the_resolved_recipe_gives_the_same_model() {
    let folder = with_recipe();
    train(&folder, "run.steps=3").succeeded();
    let resolved = folder.path("whole/recipe.toml");
    let copy = folder.write("elsewhere/copy.toml", std::fs::read(resolved).unwrap());
    let line = format!("--recipe {} --set run.out=again", copy.display());
    folder.run("train", &words(&line)).succeeded();
    let weights = |out: &str| read(&folder, &format!("{out}/model/open_clip_model.safetensors"));
    assert_eq!(weights("whole"), weights("elsewhere/again"));
}

#[cfg(unix)]
#[test]
fn sigterm_in_mid_epoch_leaves_a_checkpoint_and_exits_with_zero() {
    let folder = with_recipe();
    train(&folder, "").succeeded();
    let changes = "run.out=stopped checkpoint.every=0";
    let said = folder.terminate_when("train", &arguments(changes), || {
        let log = std::fs::read_to_string(folder.path("stopped/metrics.jsonl"));
        log.unwrap_or_default().lines().count() >= 3
    });
    let said = said
        .succeeded()
        .said(&["stopped after step", "--resume latest"]);
    assert_eq!(checkpoints(&folder, "stopped").len(), 1, "{}", said.stderr);
    assert!(!folder.path("stopped/model").exists());
    train(&folder, &format!("{changes} --resume latest")).succeeded();
    assert_eq!(log(&folder, "stopped"), log(&folder, "whole"));
    let weights = |out: &str| read(&folder, &format!("{out}/model/open_clip_model.safetensors"));
    assert_eq!(weights("stopped"), weights("whole"));
}

/// A step takes long enough for the second signal to come before its end.
#[cfg(unix)]
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let folder = with_recipe();
    let changes = "run.out=stopped data.loader.batch_size=20 run.accumulate=2";
    let said = folder.terminate_twice_when("train", &arguments(changes), || {
        let log = std::fs::read_to_string(folder.path("stopped/metrics.jsonl"));
        log.unwrap_or_default().lines().count() >= 1
    });
    assert_eq!(said.code, Some(128 + 15), "{}", said.stderr);
    assert!(
        !said.stderr.contains("stopped after step"),
        "{}",
        said.stderr
    );
    assert_eq!(checkpoints(&folder, "stopped"), [0u64; 0]);
}

#[test]
fn a_second_process_is_refused_while_the_first_trains_and_not_once_that_was_killed() {
    let folder = with_recipe();
    let long = "run.steps=100000";
    folder.kill_when("train", &arguments(long), || {
        if checkpoints(&folder, "whole").is_empty() {
            return false;
        }
        for start in ["", " --resume latest"] {
            train(&folder, &format!("{long}{start}"))
                .refused(&["whole: another process trains here", "another run.out"]);
        }
        true
    });
    let said = |what: &str| {
        let log = String::from_utf8(read(&folder, "whole/log.txt")).unwrap();
        log.contains(what)
    };
    assert!(!said("resumed from"));
    // What it left keeps nobody out, not even with the number of a process that runs.
    assert!(folder.path("whole/.lock").exists());
    folder.write("whole/.lock", std::process::id().to_string());
    let resume = arguments(&format!("{long} --resume latest"));
    folder
        .terminate_when("train", &resume, || said("resumed from"))
        .succeeded()
        .said(&["resumed from", "stopped after step"]);
}

#[test]
fn an_error_is_one_message_without_a_backtrace() {
    let folder = with_recipe();
    let outcome = folder.run_with(
        &[("RUST_BACKTRACE", "1")],
        "train",
        &arguments("model.name=gone"),
    );
    let outcome = outcome.refused(&["error: loading [model]", "gone"]);
    assert!(
        !outcome.stderr.contains("Stack backtrace"),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        outcome.stderr.matches("is no directory").count(),
        1,
        "{}",
        outcome.stderr
    );
}

#[test]
fn samples_that_cannot_be_read_are_named_in_the_log() {
    let folder = with_recipe();
    let mut table = String::from("filepath\ttitle\n");
    for i in 0..24 {
        folder.image(&format!("images/{i}.png"), [32, 32], i);
        table += &format!("images/{i}.png\ta photo of {i} dogs\n");
    }
    folder.write("images/7.png", "no image");
    folder.write("table.tsv", table);
    let source = "data.sources=[{kind=\"csv\",path=\"table.tsv\"}] method={name=\"clip\"}";
    train(
        &folder,
        &format!("{source} run.steps=3 data.loader.max_bad=0.2"),
    )
    .succeeded();
    let text = String::from_utf8(read(&folder, "whole/log.txt")).unwrap();
    let named: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("replaced"))
        .collect();
    assert_eq!(named.len(), 1, "{text}");
    assert!(
        named[0].contains("7.png") && named[0].contains("table.tsv"),
        "{named:?}"
    );
    train(
        &folder,
        &format!("{source} run.steps=3 run.out=strict data.loader.max_bad=0.0"),
    )
    .refused(&["7.png"]);
}
