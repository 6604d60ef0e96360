use super::{classes, eval, json, pairs};
use crate::command::Folder;

#[test]
fn results_become_a_table_and_a_page_and_a_foreign_file_is_left_out() {
    let folder = Folder::new();
    classes(&folder, "c", "--images 12");
    pairs(&folder, "p", 12);
    let zero_shot = "zero-shot --model tiny --dataset folder/c --root c/images --output r/c.json";
    eval(&folder, zero_shot).succeeded();
    let retrieval = "retrieval --model tiny --format karpathy --annotations p/dataset_scenes.json --images p/images";
    eval(&folder, &format!("{retrieval} --output r/p.json")).succeeded();
    folder.write("r/package.json", r#"{"name": "something else"}"#);
    folder.write("r/notes.txt", "not even JSON");

    let said = eval(&folder, "build r --output table.csv").succeeded();
    assert_eq!(said.stdout, "table.csv: 2 results\n");
    said.said(&["left out", "r/package.json", "not a result file"]);
    let table = std::fs::read_to_string(folder.path("table.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("dataset,model,pretrained,task,language,acc1,acc5,"));
    assert!(lines[0].ends_with(",model_fullname"));
    assert_eq!(lines.len(), 3);

    eval(&folder, "report r --output page.html").succeeded();
    let page = std::fs::read_to_string(folder.path("page.html")).unwrap();
    for part in [
        "Zero-shot classification",
        "data:image/jpeg;base64,",
        "package.json",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("cannot be shown"));

    eval(&folder, "build r/package.json").refused(&["r/package.json", "not a result file"]);
    eval(&folder, "report nowhere").refused(&["nowhere"]);
    folder.write("empty/notes.txt", "");
    eval(&folder, "report empty").refused(&["no result file in empty"]);
    assert!(!folder.path("benchmark.csv").exists());
}

#[test]
fn runs_with_other_prompts_or_weights_are_rows_of_their_own() {
    let folder = Folder::new();
    classes(&folder, "c", "--images 12");
    let line = "zero-shot --model tiny --dataset folder/c --root c/images";
    for (name, more) in [
        ("a", "--templates simple"),
        ("b", "--templates laclip7"),
        ("c", "--templates simple --seed 1"),
    ] {
        eval(&folder, &format!("{line} {more} --output r/{name}.json")).succeeded();
    }
    eval(&folder, "build r --output table.csv").succeeded();
    let table = std::fs::read_to_string(folder.path("table.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].ends_with(",templates,precision,weights,model_fullname"),
        "{}",
        lines[0]
    );
    let weights = |line: &str| line.split(',').rev().nth(1).unwrap().to_owned();
    assert_eq!(weights(lines[1]), weights(lines[2]));
    assert_ne!(weights(lines[1]), weights(lines[3]));
    eval(&folder, "report r --output page.html").succeeded();
    let page = std::fs::read_to_string(folder.path("page.html")).unwrap();
    for part in [" · simple", " · laclip7", " · weights ", "prompts laclip7"] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn models_are_named_after_their_run_or_as_asked() {
    let folder = Folder::new();
    classes(&folder, "c", "--images 12");
    for run in ["one", "two"] {
        let line = format!("--from tiny --out runs/{run}/model");
        folder
            .run("convert", &crate::command::words(&line))
            .succeeded();
    }
    let line = "zero-shot --dataset folder/c --root c/images --model runs/one/model,runs/two/model";
    eval(&folder, &format!("{line} --output {{model}}.json")).succeeded();
    assert_eq!(json(&folder, "one.json")["model"], "one");
    assert!(folder.path("two.json").exists());
    let named = format!("{line} --output {{model}}.json --model-name a,b");
    eval(&folder, &named).succeeded();
    assert_eq!(json(&folder, "b.json")["model"], "b");
    eval(&folder, &format!("{line} --model-name a")).refused(&["--model-name", "1 names for 2"]);
}
