use super::{eval, json, metric, pairs};
use crate::command::{Folder, words};

const METRICS: [&str; 6] = [
    "image_retrieval_recall@1",
    "image_retrieval_recall@5",
    "image_retrieval_recall@10",
    "text_retrieval_recall@1",
    "text_retrieval_recall@5",
    "text_retrieval_recall@10",
];

#[test]
fn a_model_and_its_stored_embeddings_give_the_same_recall() {
    let folder = Folder::new();
    pairs(&folder, "s", 20);
    let data = "--format karpathy --annotations s/dataset_scenes.json";
    let line = format!("retrieval --model tiny {data} --images s/images --output model.json");
    let said = eval(&folder, &line).succeeded().stdout;
    assert!(said.contains("text_retrieval_recall@10"), "{said}");

    let annotations = json(&folder, "s/dataset_scenes.json");
    let (mut names, mut texts) = (String::new(), String::new());
    for image in annotations["images"].as_array().unwrap() {
        names += &format!("s/images/{}\n", image["filename"].as_str().unwrap());
        for sentence in image["sentences"].as_array().unwrap() {
            texts += &format!("{}\n", sentence["raw"].as_str().unwrap());
        }
    }
    folder.write("images.txt", names);
    folder.write("texts.txt", texts);
    let embed = "--model tiny --images images.txt --texts texts.txt --out e.safetensors";
    folder.run("embed", &words(embed)).succeeded();
    let stored = "--image-features e.safetensors --text-features e.safetensors";
    let line = format!("retrieval {data} {stored} --images s/images --output stored.json");
    eval(&folder, &line).succeeded();

    let (model, stored) = (json(&folder, "model.json"), json(&folder, "stored.json"));
    assert_eq!(stored["pretrained"], "features");
    assert_eq!(
        (&stored["details"]["images"], &stored["details"]["texts"]),
        (&20.into(), &100.into())
    );
    for name in METRICS {
        assert_eq!(metric(&model, name), metric(&stored, name), "{name}");
    }

    // In another order the rows are found by the names of their images.
    let names = std::fs::read_to_string(folder.path("images.txt")).unwrap();
    let reversed: Vec<_> = names.lines().rev().collect();
    folder.write("images.txt", reversed.join("\n"));
    folder.run("embed", &words(embed)).succeeded();
    eval(&folder, &format!("{line} --overwrite")).succeeded();
    let reversed = json(&folder, "stored.json");
    assert_eq!(reversed["metrics"], stored["metrics"]);
}

#[test]
fn lines_of_pairs_are_read_and_ties_count_as_asked() {
    let folder = Folder::new();
    // The same picture three times: every score is a tie.
    for name in ["a.png", "b.png", "c.png"] {
        folder.image(name, [32, 32], 1);
    }
    let lines = ["a", "b", "c"]
        .map(|n| format!("{{\"image\": \"{n}.png\", \"caption\": [\"cat {n}\"]}}\n"));
    folder.write("pairs.jsonl", lines.concat());
    let recall = |ties: &str| {
        let line = format!(
            "retrieval --model tiny --format jsonl --annotations pairs.jsonl --ties {ties} --recall-k 1,2 --output r.json --overwrite"
        );
        eval(&folder, &line).succeeded();
        let result = json(&folder, "r.json");
        let note = result["details"]["notes"].to_string();
        assert!(
            note.contains("3 captions score a wrong image exactly"),
            "{note}"
        );
        METRICS[..1]
            .iter()
            .map(|name| metric(&result, name))
            .sum::<f64>()
    };
    assert!((recall("stable") - 1.0 / 3.0).abs() < 1e-9);
    assert_eq!((recall("optimistic"), recall("pessimistic")), (1.0, 0.0));
}
