//! Options, files and folders as people write them who come from open_clip, CLIP_benchmark and Hugging Face: taken, or
//! explained.

use crate::command::{Folder, Outcome, words};

fn classify(folder: &Folder, arguments: &str) -> Outcome {
    let line = format!("--images a.png --json {arguments}");
    folder.run("classify", &words(&line))
}

fn with_image() -> Folder {
    let folder = Folder::new();
    folder.image("a.png", [32, 32], 1);
    folder
}

#[test]
fn labels_may_stand_in_a_file_and_templates_may_say_c() {
    let folder = with_image();
    folder.write("labels.txt", "cat\n\ndog\r\n");
    let given = classify(&folder, "--model tiny --template my_{} --labels cat dog").succeeded();
    let read = "--model tiny --template my_{c} --labels labels.txt";
    assert_eq!(classify(&folder, read).succeeded().stdout, given.stdout);
    classify(&folder, "--model tiny --labels gone.txt").refused(&["--labels", "gone.txt"]);
    folder.write("empty.txt", "\n");
    classify(&folder, "--model tiny --labels empty.txt").refused(&["no label"]);
}

#[test]
fn devices_and_underscores_are_taken() {
    let folder = with_image();
    classify(&folder, "--model tiny --labels cat --device cpu").succeeded();
    let line = "--model tiny --images a.png --out out --batch_size 2 --no_normalize";
    folder.run("embed", &words(line)).succeeded();
}

#[test]
fn options_of_other_programs_are_explained() {
    let folder = with_image();
    for (option, words) in [
        ("--pretrained openai", ["--pretrained", "part of --model"]),
        ("--num_workers 4", ["--num-workers", "RAYON_NUM_THREADS"]),
        ("--amp", ["--amp", "--precision bf16"]),
    ] {
        let line = format!("--model tiny --labels cat {option}");
        classify(&folder, &line).refused(&words);
    }
    let train = |option: &str| {
        let line = format!("--recipe none.toml {option}");
        folder.run("train", &words(&line))
    };
    train("--lr 1e-3").refused(&["--set optimizer.lr="]);
    train("--epochs=3").refused(&["--set run.epochs="]);
    train("--train-data x.tar").refused(&["data.sources.0.shards"]);
    train("--report-to wandb").refused(&["TensorBoard"]);
    let data = |name: &str| {
        let line = format!("zero-shot --model tiny --dataset {name} --dataset_root .");
        folder.run("eval", &words(&line))
    };
    data("sun397").refused(&["wds/sun397", "folder/sun397"]);
    data("cifar10").refused(&["cifar-10-batches-bin", "eval fetch cifar10"]);
}

#[test]
fn the_folder_of_a_run_is_its_model() {
    let folder = with_image();
    let line = "--from tiny --out run/model";
    folder.run("convert", &words(line)).succeeded();
    let of = |model: &str| {
        let line = format!("--model {model} --labels cat dog");
        classify(&folder, &line).succeeded()
    };
    let (run, model) = (of("run"), of("run/model"));
    assert_eq!(run.stdout, model.stdout);
    assert!(!run.stderr.contains("RANDOM"), "{}", run.stderr);
}

#[test]
fn a_config_is_an_architecture_or_of_a_bare_file() {
    let folder = with_image();
    let line = "--from tiny --out model";
    folder
        .run("convert", &words(line))
        .succeeded()
        .said(&["RANDOM"]);
    let config = "model/open_clip_config.json";
    // The file alone: random weights, and it says so. The architecture is the preset's, and so are the weights.
    let of_file = classify(&folder, &format!("--model {config} --labels cat dog"));
    let of_file = of_file.succeeded().said(&["RANDOM"]);
    let of_preset = classify(&folder, "--model tiny --labels cat dog").succeeded();
    let of_preset = of_preset.said(&["RANDOM"]);
    assert_eq!(of_file.stdout, of_preset.stdout);
    // Beside bare weights: a file, a folder that has one, a preset.
    for config in [config, "model", "tiny"] {
        let bare = "--model model/open_clip_model.safetensors";
        let bare = classify(
            &folder,
            &format!("{bare} --config {config} --labels cat dog"),
        );
        assert_eq!(
            bare.succeeded().stdout,
            of_preset.stdout,
            "--config {config}"
        );
    }
    // Beside anything else it would change nothing.
    folder.write("classes/val/cat/keep", "");
    for model in ["tiny", "model", config] {
        let line = format!("--model {model} --config {config} --labels cat");
        classify(&folder, &line).refused(&[config, "not be used"]);
        let data = "--dataset folder --root classes";
        let line = format!("zero-shot --model {model} --config {config} {data}");
        folder
            .run("eval", &words(&line))
            .refused(&["--config", "not be used"]);
    }
}

#[test]
fn another_image_size_is_an_option() {
    let folder = with_image();
    let with = |flags: &str| classify(&folder, &format!("--model tiny --labels cat dog {flags}"));
    let native = with("").succeeded();
    let larger = with("--image-size 64").succeeded();
    assert_ne!(native.stdout, larger.stdout);
    let alias = with("--force_image_size 64").succeeded();
    assert_eq!(alias.stdout, larger.stdout);
    with("--image-size 33").refused(&["33"]);
    with("--image-size 0").refused(&["0"]);
}
