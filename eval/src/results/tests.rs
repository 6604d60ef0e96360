use super::*;
use serde_json::json;

pub(crate) fn run(dataset: &str, model: &str, task: &str, metrics: Value) -> RunResult {
    let Value::Object(metrics) = metrics else {
        panic!("metrics are an object")
    };
    RunResult {
        dataset: dataset.into(),
        model: model.into(),
        pretrained: "openai".into(),
        task: task.into(),
        metrics,
        language: "en".into(),
        classnames: None,
        templates: None,
        details: None,
    }
}

#[test]
fn a_result_is_clip_benchmarks_json_in_its_key_order_without_nan() {
    let result = run(
        "wds/x",
        "ViT-B-32",
        "zeroshot_classification",
        json!({"acc1": 0.5, "acc5": f64::NAN}),
    );
    assert_eq!(
        serde_json::to_string(&result).unwrap(),
        r#"{"dataset":"wds/x","model":"ViT-B-32","pretrained":"openai","task":"zeroshot_classification","#
            .to_owned()
            + r#""metrics":{"acc1":0.5,"acc5":null},"language":"en"}"#
    );
}

#[test]
fn clip_benchmarks_own_files_are_read_even_with_nan() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.json");
    let text = r#"{"dataset": "x", "model": "m", "pretrained": "p", "task": "zeroshot_classification",
        "metrics": {"acc1": 0.25, "acc5": NaN, "mean_per_class_recall": 0.5}, "language": "en"}"#;
    std::fs::write(&path, text).unwrap();
    let result = RunResult::load(&path).unwrap();
    assert_eq!(
        (result.metric("acc1"), result.metric("acc5")),
        (Some(0.25), None)
    );
    result.save(&path).unwrap();
    assert_eq!(RunResult::load(&path).unwrap(), result);
}

#[test]
fn the_csv_has_fixed_columns_with_recalls_in_order() {
    let runs = [
        run(
            "a",
            "m",
            "zeroshot_classification",
            json!({"acc1": 0.5, "acc5": null}),
        ),
        run(
            "b",
            "m",
            "zeroshot_retrieval",
            json!({"image_retrieval_recall@10": 0.9, "image_retrieval_recall@5": 0.75}),
        ),
    ];
    let csv = to_csv(&runs).unwrap();
    let lines: Vec<_> = csv.lines().collect();
    assert_eq!(
        lines[0],
        "dataset,model,pretrained,task,language,acc1,acc5,image_retrieval_recall@5,image_retrieval_recall@10,model_fullname"
    );
    assert_eq!(
        lines[2],
        "b,m,openai,zeroshot_retrieval,en,,,0.75,0.9,m openai"
    );
}

#[test]
fn a_foreign_file_in_a_folder_is_named_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("other.json");
    std::fs::write(&foreign, r#"{"name": "package"}"#).unwrap();
    let folder = [dir.path().to_path_buf()];
    assert!(
        load_all(&folder)
            .unwrap_err()
            .to_string()
            .contains("other.json")
    );
    run("a", "m", "t", json!({"acc1": 0.5}))
        .save(&dir.path().join("a.json"))
        .unwrap();
    let (results, skipped) = load_all(&folder).unwrap();
    assert_eq!((results.len(), skipped.len()), (1, 1));
    assert!(
        skipped[0].contains("other.json") && skipped[0].contains("dataset"),
        "{skipped:?}"
    );
    assert!(load_all(&[foreign]).is_err());
}

#[test]
fn file_names_come_from_a_template() {
    let parts = ["wds/vtab/x", "ViT-B-32", "openai", "en", "linear_probe"];
    let name = RunResult::file_name(
        "{dataset}_{pretrained}_{model}_{language}_{task}.json",
        parts,
    );
    assert_eq!(name, "vtab_x_openai_ViT-B-32_en_linear_probe.json");
}

/// A zero-shot run with these templates and weights.
pub(crate) fn known_run(templates: &str, identity: &str, accuracy: f64) -> RunResult {
    let details = Details {
        prompts: Some(PromptsUsed {
            name: Some(templates.into()),
            ..PromptsUsed::default()
        }),
        provenance: Some(Provenance {
            precision: "f32".into(),
            ..Provenance::new("runs/a/model", identity)
        }),
        ..Details::default()
    };
    RunResult {
        details: Some(details),
        ..run(
            "x",
            "mine",
            "zeroshot_classification",
            json!({"acc1": accuracy}),
        )
    }
}

#[test]
fn runs_that_differ_in_prompts_or_weights_have_names_of_their_own() {
    let retrieval = run("y", "mine", "zeroshot_retrieval", json!({}));
    let two_prompts = [
        known_run("openai80", "abcdef01", 0.5),
        known_run("simple", "abcdef01", 0.4),
        retrieval,
    ];
    let expected = [
        "mine openai · openai80",
        "mine openai · simple",
        "mine openai",
    ];
    assert_eq!(row_names(&two_prompts), expected);
    let two_models = [
        known_run("simple", "abcdef01", 0.5),
        known_run("simple", "12345678", 0.4),
    ];
    let expected = [
        "mine openai · weights abcdef",
        "mine openai · weights 123456",
    ];
    assert_eq!(row_names(&two_models), expected);
    let csv = to_csv(&two_models).unwrap();
    assert_eq!(
        csv.lines().collect::<Vec<_>>()[..2],
        [
            "dataset,model,pretrained,task,language,acc1,templates,precision,weights,model_fullname",
            "x,mine,openai,zeroshot_classification,en,0.5,simple,f32,abcdef,mine openai",
        ]
    );
}
