//! The stream with a writer that needs no model.

use super::*;
use crate::rewrite::pool::Pool;
use crate::rewrite::prompt::{HEADER, PromptForm};
use crate::rewrite::{Merged, Written, merge};
use llm::{Limits, Sampling};
use std::path::Path;

/// Answers with what it was asked, scrambled by the seed; breaks after a given number of batches.
struct Parrot {
    batches_left: usize,
}

impl Writer for Parrot {
    /// One token per character, after one for the beginning.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        Ok(std::iter::once(0)
            .chain(text.chars().map(u32::from))
            .collect())
    }

    fn decode(&self, ids: &[u32]) -> String {
        ids.iter()
            .skip(1)
            .filter_map(|id| char::from_u32(*id))
            .collect()
    }

    fn longest(&self) -> Option<usize> {
        Some(1000)
    }

    fn write(&mut self, prompts: &[(String, u64)]) -> Result<Vec<Written>> {
        if self.batches_left == 0 {
            return Err(Error::Options("power cut".into()));
        }
        self.batches_left -= 1;
        let answer = |(prompt, seed): &(String, u64)| {
            assert!(prompt.ends_with(" =>") && self.encode(prompt).unwrap().len() < 1000);
            let caption = prompt
                .rsplit('\n')
                .next()
                .unwrap()
                .trim_end_matches(" =>")
                .trim();
            let caption: String = caption.chars().take(200).collect();
            let text = match seed % 7 {
                0 => "\n".into(),
                1 => format!(" {caption}\r{seed:x}\u{2028}b => c\nnext"),
                _ => format!(" {caption} {seed:x}\n            next"),
            };
            Written { text, tokens: 3 }
        };
        Ok(prompts.iter().map(answer).collect())
    }
}

fn settings() -> Settings {
    Settings {
        pool: Pool::open("coco").unwrap(),
        header: HEADER.into(),
        form: PromptForm::Compat,
        sampling: Sampling {
            temperature: 0.9,
            top_p: 0.95,
        },
        limits: Limits {
            max_gen_len: 77,
            max_seq_len: 1000,
        },
        seed: 5,
        empty: Empty::Original,
    }
}

fn a_run(folder: &Path, output: &str, resume: bool) -> Run {
    Run {
        input: folder.join("in.txt"),
        output: folder.join(output),
        shard: None,
        settings: settings(),
        batch_size: 32,
        resume,
        about: RunRecord::default().with("llm", "parrot"),
    }
}

fn go(config: &Run, batches: usize) -> Result<Summary> {
    let load = || {
        Ok(Parrot {
            batches_left: batches,
        })
    };
    run(config, load, &mut |_| {})
}

/// Captions of every kind, 10,000 of them, the last without a line ending.
fn captions() -> String {
    let line = |i: usize| match i % 10 {
        0 => String::new(),
        1 => "   ".into(),
        2 => format!("a dog => a cat {i}"),
        3 => format!("one\rtwo {i}"),
        4 => format!("before\u{2028}after\u{85} {i}\r"),
        5 if i % 1000 == 5 => format!("word{i} ").repeat(5000),
        _ => format!("a photo of number {i}"),
    };
    (0..10_000).map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn ten_thousand_lines_killed_twice_equal_an_uninterrupted_run() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), captions()).unwrap();
    let whole = go(&a_run(folder.path(), "whole.txt", false), usize::MAX).unwrap();
    assert_eq!(
        (whole.progress.done, whole.progress.total),
        (10_000, 10_000)
    );
    assert_eq!((whole.blank, whole.shortened), (2_000, 10));
    assert!(whole.empty > 500);
    let expected = std::fs::read_to_string(folder.path().join("whole.txt")).unwrap();
    assert_eq!(expected.matches('\n').count(), 10_000);
    assert!(!expected.contains(['\r', '\u{2028}', '\u{85}']));
    let lines: Vec<&str> = expected.lines().collect();
    assert_eq!((lines[0], lines[1]), ("", ""));
    assert!(
        lines
            .iter()
            .all(|line| !line.contains("=>") || line.starts_with("a dog => a cat"))
    );

    let path = folder.path().join("out.txt");
    assert!(go(&a_run(folder.path(), "out.txt", true), 100).is_err());
    // The second batch after the break was half written.
    let mut torn = std::fs::read_to_string(&path).unwrap();
    assert_eq!(torn.lines().count(), 3_200);
    torn.push_str("whole\nwhole\nto");
    std::fs::write(&path, torn).unwrap();
    assert!(go(&a_run(folder.path(), "out.txt", true), 57).is_err());
    let last = go(&a_run(folder.path(), "out.txt", true), usize::MAX).unwrap();
    assert_eq!(last.progress.resumed, 3_200 + 57 * 32);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);

    let again = run(
        &a_run(folder.path(), "out.txt", true),
        || -> Result<Parrot> { panic!("nothing is left to do") },
        &mut |_| {},
    );
    assert_eq!(again.unwrap().progress.resumed, 10_000);
    let mut other = a_run(folder.path(), "other.txt", false);
    other.batch_size = 7;
    go(&other, usize::MAX).unwrap();
    assert_eq!(
        std::fs::read_to_string(other.output).unwrap(),
        expected,
        "any batch size"
    );
}

#[test]
fn an_empty_rewrite_is_the_caption_or_an_empty_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), "a\rb\n".repeat(50)).unwrap();
    let mut config = a_run(folder.path(), "original.txt", false);
    go(&config, 9).unwrap();
    let original = std::fs::read_to_string(&config.output).unwrap();
    assert!(original.lines().any(|line| line == "a b"));
    config.output = folder.path().join("blank.txt");
    config.settings.empty = Empty::Blank;
    go(&config, 9).unwrap();
    let blank = std::fs::read_to_string(&config.output).unwrap();
    assert_eq!(blank.lines().count(), 50);
    for (original, blank) in original.lines().zip(blank.lines()) {
        assert_eq!(blank, if original == "a b" { "" } else { original });
    }
}

#[test]
fn an_output_is_never_overwritten_and_goes_on_only_as_it_was_begun() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), "a\nb\n".repeat(40)).unwrap();
    let config = a_run(folder.path(), "out.txt", false);
    assert!(go(&config, 1).is_err());
    let message = go(&config, 9).unwrap_err().to_string();
    assert!(
        message.contains("out.txt") && message.contains("resume"),
        "{message}"
    );

    let mut other = a_run(folder.path(), "out.txt", true);
    other.settings.sampling.temperature = 0.5;
    other.settings.pool = Pool::open("bard").unwrap();
    other.about = RunRecord::default().with("llm", "another");
    let message = go(&other, 9).unwrap_err().to_string();
    for word in [
        "temperature: was 0.9, is 0.5",
        "\"coco\", is \"bard\"",
        "llm",
        "parrot",
    ] {
        assert!(message.contains(word), "no `{word}` in: {message}");
    }
    assert!(!message.contains("top_p"), "{message}");
    std::fs::write(folder.path().join("in.txt"), "a\nc\n".repeat(40)).unwrap();
    let message = go(&a_run(folder.path(), "out.txt", true), 9)
        .unwrap_err()
        .to_string();
    assert!(message.contains("input_sha256"), "{message}");

    std::fs::remove_file(RunRecord::path(&config.output)).unwrap();
    let message = go(&a_run(folder.path(), "out.txt", true), 9)
        .unwrap_err()
        .to_string();
    assert!(message.contains("out.txt.run.json"), "{message}");
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), "a\n").unwrap();
    let mut config = a_run(folder.path(), "out.txt", false);
    config.settings.limits.max_seq_len = 300;
    let message = go(&config, 9).unwrap_err().to_string();
    assert!(message.contains("max_seq_len: 300"), "{message}");
    config.settings.limits.max_seq_len = 1001;
    let message = go(&config, 9).unwrap_err().to_string();
    let said = ["max_seq_len: 1001", "trained for", "give 1000"];
    assert!(said.iter().all(|word| message.contains(word)), "{message}");
    config.settings.limits.max_gen_len = 0;
    let error = go(&config, 9).unwrap_err();
    assert_eq!(error.option().unwrap().0, "max_gen_len");
    config.settings.limits.max_gen_len = 77;
    config.settings.limits.max_seq_len = 1000;
    config.settings.sampling.top_p = 0.0;
    assert!(go(&config, 9).is_err());
    config.settings.sampling.top_p = 1.0;
    config.input = folder.path().join("gone.txt");
    assert!(go(&config, 9).unwrap_err().to_string().contains("gone.txt"));
    config.input = folder.path().into();
    assert!(go(&config, 9).is_err());
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn an_empty_file_gives_an_empty_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), "").unwrap();
    let config = a_run(folder.path(), "out.txt", false);
    assert_eq!(go(&config, 0).unwrap().progress.total, 0);
    assert_eq!(std::fs::read(config.output).unwrap(), b"");
}

/// The run of a share of `out.txt`.
fn a_share(folder: &Path, index: usize, of: usize) -> Run {
    let shard = Shard::new(index, of).unwrap();
    let mut run = a_run(folder, "out.txt", true);
    run.output = shard.path(&run.output);
    run.shard = Some(shard);
    run
}

#[test]
fn shares_that_were_interrupted_equal_a_run_over_all_lines() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), captions()).unwrap();
    let whole = a_run(folder.path(), "whole.txt", false);
    go(&whole, usize::MAX).unwrap();
    let out = folder.path().join("out.txt");
    for of in [1, 3, 4, 500] {
        for index in 0..of {
            let share = a_share(folder.path(), index, of);
            if index % 2 == 0 && of < 500 {
                assert!(go(&share, 3).is_err(), "the power cut");
            }
            go(&share, usize::MAX).unwrap();
        }
        let shares = of;
        assert_eq!(
            merge(&out).unwrap(),
            Merged {
                shares,
                lines: 10_000
            }
        );
        for (name, path) in [
            (&whole.output, &out),
            (&RunRecord::path(&whole.output), &RunRecord::path(&out)),
        ] {
            assert_eq!(
                std::fs::read(name).unwrap(),
                std::fs::read(path).unwrap(),
                "{of} shares"
            );
        }
        let message = merge(&out).unwrap_err().to_string();
        assert!(message.contains("out.txt: exists already"), "{message}");
        std::fs::remove_file(&out).unwrap();
        for index in 0..of {
            let share = a_share(folder.path(), index, of).output;
            std::fs::remove_file(RunRecord::path(&share)).unwrap();
            std::fs::remove_file(share).unwrap();
        }
    }
}

#[test]
fn shares_that_do_not_go_together_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.txt"), "a\nb\n".repeat(50)).unwrap();
    let out = folder.path().join("out.txt");
    let refused = |said: &[&str]| {
        let message = merge(&out).unwrap_err().to_string();
        assert!(said.iter().all(|word| message.contains(word)), "{message}");
        assert!(!out.exists());
    };
    let share = |index: usize| a_share(folder.path(), index, 3);
    refused(&["out.txt", "no shares"]);
    go(&share(0), 9).unwrap();
    go(&share(2), 9).unwrap();
    refused(&["1 of 3 shares", "out.shard-1-of-3.txt", "--shard 1/3"]);
    let mut other = share(1);
    other.settings.sampling.temperature = 0.5;
    other.batch_size = 10;
    go(&other, 9).unwrap();
    refused(&[
        "out.shard-1-of-3.txt",
        "out.shard-0-of-3.txt",
        "temperature: was 0.9, is 0.5",
        "batch_size: was 32",
    ]);
    let message = go(&share(1), 9).unwrap_err().to_string();
    assert!(message.contains("batch_size: was 10, is 32"), "{message}");
    let begin_again = |index: usize| {
        let path = share(index).output;
        std::fs::remove_file(RunRecord::path(&path)).unwrap();
        std::fs::remove_file(path).unwrap();
    };
    begin_again(1);
    assert!(go(&share(1), 0).is_err());
    refused(&[
        "out.shard-1-of-3.txt: 0 of its 32 lines are there",
        "--resume",
    ]);
    go(&share(1), 9).unwrap();
    std::fs::copy(share(1).output, share(2).output).unwrap();
    std::fs::copy(
        RunRecord::path(&share(1).output),
        RunRecord::path(&share(2).output),
    )
    .unwrap();
    refused(&[
        "out.shard-1-of-3.txt and ",
        "out.shard-2-of-3.txt both hold share 1/3",
    ]);
    std::fs::remove_file(RunRecord::path(&share(2).output)).unwrap();
    refused(&["out.shard-2-of-3.txt", "run.json does not say"]);
}
