//! `rewrite`: one line for every line, through kills, and what it refuses.

use crate::command::{Folder, Outcome, words};

/// Llamas in their folders below a tokenizer, made by `tests/reference/llm.py`.
fn with_llama() -> Folder {
    let folder = Folder::new();
    let fixtures = tests::fixture("llm");
    let copy = |name: &str| folder.write(name, std::fs::read(fixtures.join(name)).unwrap());
    copy("tokenizer.model");
    for directory in ["llama2", "meta"] {
        for entry in fixtures.join(directory).read_dir().unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            copy(&format!("{directory}/{file}"));
        }
    }
    folder
}

const BASE: &str = "--llm llama2 --input in.txt --output out.txt --mode coco";

/// Long prompts and short answers, as every character is a token or three of these small models.
const SHORT: &str = "--max-seq-len 600 --max-gen-len 8 --batch-size 4";

fn rewrite(folder: &Folder, flags: &str) -> Outcome {
    folder.run("rewrite", &words(flags))
}

fn read(folder: &Folder, name: &str) -> String {
    std::fs::read_to_string(folder.path(name)).unwrap()
}

#[test]
fn every_line_of_any_kind_has_its_line() {
    let folder = with_llama();
    let long = "word ".repeat(5000);
    let lines = [
        "a dog",
        "",
        "a => b",
        "one\rtwo",
        "a\u{2028}b",
        &long,
        "  ",
        "caf\u{e9} \u{1f436}",
        "last",
    ];
    folder.write("in.txt", lines.join("\n"));
    let outcome = rewrite(&folder, &format!("{BASE} {SHORT}")).succeeded();
    outcome.said(&[
        "llama2",
        "9 lines",
        "tokens/s",
        "too long for --max-seq-len, cut at their end: 1",
        "blank captions, left blank: 2",
    ]);
    let output = read(&folder, "out.txt");
    assert_eq!(output.matches('\n').count(), 9, "{output:?}");
    assert!(!output.contains(['\r', '\u{2028}']));
    let written: Vec<&str> = output.split('\n').collect();
    assert_eq!((written[1], written[6], written[9]), ("", "", ""));
    assert_eq!(
        folder.names(),
        [
            "in.txt",
            "llama2",
            "meta",
            "out.txt",
            "out.txt.run.json",
            "tokenizer.model"
        ]
    );
    // CRLF files give the same; so do Meta's weights, whose sums round alike.
    folder.write("crlf.txt", lines.join("\r\n"));
    for (llm, input) in [("llama2", "crlf.txt"), ("meta", "in.txt")] {
        let flags = format!("--llm {llm} --input {input} --output {llm}.txt --mode coco {SHORT}");
        rewrite(&folder, &flags).succeeded();
        assert_eq!(read(&folder, &format!("{llm}.txt")), output);
    }
    let flags =
        format!("--llm llama2 --input in.txt --output other.txt --mode coco {SHORT} --seed 1");
    rewrite(&folder, &flags).succeeded();
    assert_ne!(read(&folder, "other.txt"), output);
}

/// Starts a run and kills it as soon as its output has `lines` lines.
fn kill_at(folder: &Folder, flags: &str, lines: usize) {
    folder.kill_when("rewrite", &words(flags), || {
        let written = std::fs::read_to_string(folder.path("out.txt")).unwrap_or_default();
        written.matches('\n').count() >= lines
    });
}

#[test]
fn a_run_that_is_killed_twice_equals_an_uninterrupted_one() {
    let folder = with_llama();
    let captions: Vec<String> = (0..120).map(|i| format!("a photo of {i} dogs")).collect();
    folder.write("in.txt", captions.join("\n") + "\n");
    let flags = format!("{BASE} {SHORT}");
    rewrite(&folder, &flags.replace("out.txt", "whole.txt")).succeeded();
    let whole = read(&folder, "whole.txt");
    assert_eq!(whole.lines().count(), 120);

    kill_at(&folder, &flags, 8);
    rewrite(&folder, &flags).refused(&["out.txt", "exists", "resume"]);
    let resume = format!("{flags} --resume");
    kill_at(&folder, &resume, 40);
    // What a power cut may leave behind.
    let mut torn = read(&folder, "out.txt");
    assert!(torn.lines().count() < 120, "the kill came too late");
    torn.push_str("half a li");
    folder.write("out.txt", torn);
    rewrite(&folder, &resume).succeeded();
    assert_eq!(read(&folder, "out.txt"), whole);
    rewrite(&folder, &resume)
        .succeeded()
        .said(&["all 120 lines were there"]);

    rewrite(&folder, &format!("{resume} --temperature 0.5"))
        .refused(&["temperature: was 0.9, is 0.5", "out.txt"]);
    rewrite(&folder, &resume.replace("llama2", "meta")).refused(&["llm_files"]);
    folder.write("in.txt", "another\n");
    rewrite(&folder, &resume).refused(&["input_lines: was 120, is 1"]);
}

#[test]
fn models_that_are_none() {
    let folder = with_llama();
    folder.write("in.txt", "a dog\n");
    let run = |llm: &str| rewrite(&folder, &BASE.replace("llama2", llm));
    run("gone").refused(&["gone"]);
    run("in.txt").refused(&["in.txt"]);
    folder.write("empty/readme", "");
    run("empty").refused(&["empty", "config.json", "params.json"]);
    let config = read(&folder, "llama2/config.json");
    for (to, said) in [
        (config.replace("\"llama\"", "\"gpt2\""), "gpt2"),
        (
            config.replace("\"hidden_size\"", "\"width\""),
            "hidden_size",
        ),
        (
            config.replace("\"hidden_size\": 32", "\"hidden_size\": 33"),
            "[32, 32]",
        ),
        (config[..40].into(), "not JSON"),
    ] {
        folder.write("llama2/config.json", to);
        run("llama2").refused(&["llama2", said]);
    }
    folder.write("llama2/config.json", config);
    folder.write("llama2/model-00001-of-00002.safetensors", "cut");
    run("llama2").refused(&["model-00001-of-00002.safetensors"]);
    assert!(!folder.path("out.txt").exists());
    assert!(!folder.path("out.txt.run.json").exists());
}

#[test]
fn inputs_and_flags_that_are_wrong() {
    let folder = with_llama();
    folder.write("in.txt", "a dog\n");
    folder.write("latin1.txt", b"fine\ncaf\xe9\n");
    folder.write(
        "pool.json",
        r#"{"name": "mine", "pairs": [{"source": "a", "target": "b => c"}]}"#,
    );
    let run = |from: &str, to: &str| rewrite(&folder, &BASE.replace(from, to));
    run("in.txt", "gone.txt").refused(&["gone.txt"]);
    run("in.txt", "latin1.txt").refused(&["latin1.txt", "line 2", "UTF-8"]);
    folder.write("table.tsv", "filepath\ttitle\na.jpg\ta dog\n");
    run("in.txt", "table.tsv").refused(&["table.tsv", "header of a table"]);
    run("in.txt", "llama2").refused(&["llama2", "directory"]);
    run("out.txt", "llama2").refused(&["llama2", "directory"]);
    // Found out before the model is loaded, here before it is missed.
    let elsewhere = BASE.replace("out.txt", "no/such/folder/out.txt");
    rewrite(&folder, &elsewhere.replace("llama2", "gone")).refused(&["no/such/folder"]);
    run("coco", "poetry").refused(&["poetry", "chatgpt, bard, coco, human"]);
    run("coco", "pool.json").refused(&["pool.json", "1 examples"]);
    run("coco", "in.txt").refused(&["in.txt", "pairs"]);
    run("coco", "coco --temperature -1").refused(&["--temperature: ", "not -1"]);
    run("coco", "coco --top-p 1.5").refused(&["--top-p: ", "not 1.5"]);
    run("coco", "coco --max-seq-len 50").refused(&["--max-seq-len: 50", "give"]);
    run("coco", "coco --max-seq-len 2049").refused(&["--max-seq-len: 2049", "give 2048"]);
    run("coco", "coco --batch-size 0").refused(&["--batch-size"]);
    run("coco", "coco --prompt tidy").refused(&["tidy", "compat"]);
    run("coco", "coco --on-empty drop").refused(&["drop", "original"]);
    assert!(
        !folder
            .names()
            .iter()
            .any(|name| name.starts_with("out.txt"))
    );
}
