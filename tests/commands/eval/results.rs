use super::{classes, eval, pairs};
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
