use super::{classes, eval, json, metric};
use crate::command::{Folder, words};

#[test]
fn a_folder_of_classes_gives_a_result_in_clip_benchmarks_schema() {
    let folder = Folder::new();
    classes(&folder, "s", "--images 24");
    let line = "zero-shot --model tiny --dataset folder/scenes --root s/images --classnames s/classnames.txt";
    let outcome = eval(
        &folder,
        &format!("{line} --templates s/templates.txt --output in.json"),
    );
    let said = outcome.succeeded().stdout;
    assert!(said.contains("folder/scenes · tiny random"), "{said}");
    assert!(said.contains("→ in.json"), "{said}");
    let result = json(&folder, "in.json");
    let keys: Vec<_> = result.as_object().unwrap().keys().collect();
    let schema = [
        "dataset",
        "model",
        "pretrained",
        "task",
        "metrics",
        "language",
        "details",
    ];
    assert_eq!(keys, schema);
    assert_eq!(result["dataset"], "folder/scenes");
    assert_eq!(result["task"], "zeroshot_classification");
    let details = &result["details"];
    assert_eq!(
        (&details["images"], &details["classes"]),
        (&24.into(), &6.into())
    );
    // What is needed to do it again.
    let templates = std::fs::read_to_string(folder.path("s/templates.txt")).unwrap();
    let templates = templates.lines().count();
    assert_eq!(details["prompts"]["templates"], templates);
    assert_eq!(details["texts"], details["prompts"]["prompts"]);
    let from = &details["provenance"];
    assert_eq!(
        (&from["model"], &from["precision"]),
        (&"tiny".into(), &"f32".into())
    );
    assert_eq!(
        (&from["backend"], &from["seed"]),
        (&"flex".into(), &0.into())
    );
    assert_eq!(from["identity"].as_str().unwrap().len(), 16);
    assert!(!from["version"].as_str().unwrap().is_empty());
    for name in ["acc1", "acc5", "mean_per_class_recall"] {
        assert!((0.0..=1.0).contains(&metric(&result, name)), "{name}");
    }
}

#[test]
fn folders_named_by_wordnet_ids_get_the_names_of_their_classes() {
    let folder = Folder::new();
    // Classes 0 (tench), 2 (great white shark) and 999 (toilet paper).
    for (wnid, seed) in [("n15075141", 3), ("n01440764", 1), ("n01484850", 2)] {
        folder.image(&format!("photos/{wnid}/a.JPEG"), [40, 50], seed);
    }
    let line =
        "zero-shot --model tiny --dataset imagenet --root photos --templates simple --dump-prompts";
    eval(&folder, &format!("{line} --output all.json")).succeeded();
    let all = json(&folder, "all.json");
    assert_eq!(all["dataset"], "imagenet1k");
    assert_eq!(all["classnames"].as_array().unwrap().len(), 1000);
    let note = all["details"]["notes"][0].as_str().unwrap();
    assert!(note.contains("997 of 1000 classes have no image"), "{note}");

    eval(
        &folder,
        &format!("{line} --present-classes --output few.json"),
    )
    .succeeded();
    let few = json(&folder, "few.json");
    assert_eq!(
        few["classnames"],
        serde_json::json!(["tench", "great white shark", "toilet paper"])
    );
    assert!(
        metric(&few, "acc1") >= metric(&all, "acc1"),
        "an easier task"
    );
}

#[test]
fn a_grid_writes_a_file_per_run_and_leaves_out_what_is_there() {
    let folder = Folder::new();
    classes(&folder, "s", "--images 6");
    folder.write("models.txt", "tiny\nscenes\n");
    let line = "zero-shot --model models.txt --dataset folder/s --root s/images --templates laclip7 --skip-existing";
    eval(&folder, line).succeeded();
    let files = [
        "folder_s_random_scenes_en_zeroshot_classification.json",
        "folder_s_random_tiny_en_zeroshot_classification.json",
    ];
    let names = || {
        folder
            .names()
            .into_iter()
            .filter(|name| name.ends_with(".json"))
    };
    assert_eq!(names().collect::<Vec<_>>(), files);

    let before = std::fs::read(folder.path(files[0])).unwrap();
    std::fs::remove_file(folder.path(files[1])).unwrap();
    let again = eval(&folder, line).succeeded();
    assert!(
        again.stderr.contains("1 run left out because"),
        "{}",
        again.stderr
    );
    assert_eq!(std::fs::read(folder.path(files[0])).unwrap(), before);
    assert!(folder.path(files[1]).exists());
}

#[test]
fn stored_embeddings_of_images_and_prompts_give_the_same_numbers() {
    let folder = Folder::new();
    classes(&folder, "s", "--images 12");
    let names = std::fs::read_to_string(folder.path("s/classnames.txt")).unwrap();
    let prompts = names.lines().map(|name| format!("a {name}.\nthe {name}\n"));
    folder.write("prompts.txt", prompts.collect::<String>());
    folder.write("templates.txt", "a {}.\nthe {}\n");
    let embed = "--model tiny --images s/images --texts prompts.txt --out e.safetensors";
    folder.run("embed", &words(embed)).succeeded();
    let data = "zero-shot --dataset folder/s --root s/images --classnames s/classnames.txt";
    eval(
        &folder,
        &format!("{data} --templates templates.txt --model tiny --output m.json"),
    )
    .succeeded();
    let stored = format!(
        "{data} --image-features e.safetensors --text-features e.safetensors --output f.json"
    );
    eval(&folder, &format!("{stored} --templates templates.txt")).succeeded();
    let (model, features) = (json(&folder, "m.json"), json(&folder, "f.json"));
    assert_eq!(model["metrics"], features["metrics"]);
    assert_eq!(features["model"], "e");
    eval(
        &folder,
        &format!("{stored} --templates simple --skip-existing"),
    )
    .succeeded();
    let seven = format!("{stored} --templates laclip7 --overwrite");
    eval(&folder, &seven).refused(&["no embedding of the text", "those of 12 texts"]);
    assert_eq!(
        json(&folder, "f.json"),
        features,
        "a failed run keeps the result"
    );
}
