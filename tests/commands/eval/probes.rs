use super::{classes, eval, json, metric};
use crate::command::Folder;

#[test]
fn probes_learn_from_one_split_and_find_the_embeddings_again() {
    let folder = Folder::new();
    classes(&folder, "s/train", "--split train --images 120");
    classes(&folder, "s/val", "--images 60");
    let line = "linear-probe --model tiny --dataset folder/s --root s --train-split train/images --split val/images --batch-size 20 --epochs 60";
    eval(&folder, &format!("{line} --output linear.json")).succeeded();
    let linear = json(&folder, "linear.json");
    assert!(
        metric(&linear, "lp_acc1") > 0.25,
        "chance is 1/6: {}",
        linear["metrics"]
    );
    assert_eq!(linear["metrics"]["fewshot_k"], -1);

    let cached = |extension: &str| {
        let names = folder.path("features").read_dir().unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(extension)).count()
    };
    assert_eq!(cached(".safetensors"), 2);

    let knn = format!("{line} --method knn --neighbours 1 --output knn.json");
    eval(&folder, &knn).succeeded();
    assert_eq!(
        cached(".safetensors"),
        2,
        "the embeddings are there already"
    );
    let knn = json(&folder, "knn.json");
    assert_eq!(knn["task"], "knn_probe");
    assert!(metric(&knn, "knn_acc1") > 0.25, "{}", knn["metrics"]);
    assert_eq!(knn["details"]["split"], "val/images");
    // Other weights are other embeddings.
    eval(
        &folder,
        &format!("{line} --seed 1 --method knn --output other.json"),
    )
    .succeeded();
    assert_eq!(cached(".safetensors"), 4);

    let few = format!("{line} --fewshot-k 4 --normalize false --seed 3 --output few.json");
    eval(&folder, &few).succeeded();
    let few = json(&folder, "few.json");
    assert_eq!(few["metrics"]["fewshot_k"], 4);
    assert_eq!(few["metrics"]["normalized"], false);
    let note = few["details"]["notes"][0].as_str().unwrap();
    assert!(note.contains("24 images of 6 classes"), "{note}");

    eval(&folder, &format!("{line} --fewshot-k 40")).refused(&["--fewshot-k", "only 20 of the 40"]);
}

#[test]
fn a_probe_is_not_scored_on_what_it_was_trained_on() {
    let folder = Folder::new();
    classes(&folder, "s", "--images 60");
    let line = "linear-probe --model tiny --dataset folder --output r.json --root s";
    let same = format!("{line} --train-split images --split images");
    eval(&folder, &same).refused(&["60 of the 60 images", "those to train on"]);
    eval(&folder, &format!("{line}/images")).refused(&["no split `train`"]);
    assert!(!folder.path("r.json").exists() && !folder.path("features").exists());
}
