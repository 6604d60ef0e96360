//! Calls of examples in a line of code.

use super::{
    markdown::Code,
    shell::{VARIABLE, commands},
};

/// An example with its arguments.
#[derive(Debug, Default, PartialEq)]
pub struct Call {
    pub example: String,
    pub arguments: Vec<String>,
    /// By `cargo run`, which says how it is built.
    pub by_cargo: bool,
    /// Where cargo is told to look for it.
    pub package: Option<String>,
    /// That it is built with.
    pub features: Vec<String>,
    /// Arguments may have been left out: three dots stand for them, or it is part of a sentence.
    pub open: bool,
}

/// The calls in a line: by cargo, by the path of the binary, or by the name alone, as documents do that say so.
pub fn calls(code: &Code, examples: &[&str]) -> Vec<Call> {
    let mut found = Vec::new();
    for words in commands(&code.text) {
        // What another program is told to run.
        for word in words.iter().filter(|word| word.contains(' ')) {
            if word.contains("examples/") || word.contains("cargo run") {
                let text = word.clone();
                found.extend(calls(&Code { text, ..*code }, examples));
            }
        }
        found.extend(call(&words, code.fenced, examples));
    }
    found
}

/// Programs that start another.
const LAUNCHERS: [&str; 4] = ["mpiexec", "mpirun", "nohup", "srun"];

fn call(words: &[String], fenced: bool, examples: &[&str]) -> Option<Call> {
    let before = |word: &&String| word.contains('=') || ["do", "time"].contains(&&***word);
    let words = &words[words.iter().take_while(before).count()..];
    let program = &**words.first()?;
    if program == "cargo" {
        let run = words.get(1).is_some_and(|word| word == "run");
        return run.then(|| by_cargo(&words[2..])).flatten();
    }
    let reach = match LAUNCHERS.contains(&program) {
        true => words.len(),
        false => 1,
    };
    for (at, word) in words[..reach].iter().enumerate() {
        let name = word.rsplit_once("/examples/").map(|(_, name)| name);
        if let Some(name) = name.filter(|_| word.contains("target/")) {
            return Some(with_arguments(name.into(), &words[at + 1..]));
        }
    }
    // `eval "$(..)"` is the shell's own.
    let next = words.get(1).filter(|next| *next != VARIABLE)?;
    // In a sentence a word beside the name may be just that.
    let meant = fenced || next.starts_with("--") || words.len() > 2;
    if !meant || !examples.contains(&program) {
        return None;
    }
    let call = with_arguments(program.into(), &words[1..]);
    Some(Call {
        open: call.open || !fenced,
        ..call
    })
}

/// `[OPTIONS] --example NAME [OPTIONS] [-- ARGUMENTS]`
fn by_cargo(words: &[String]) -> Option<Call> {
    let end = words.iter().position(|word| word == "--");
    let (cargo, arguments) = words.split_at(end.unwrap_or(words.len()));
    let value = |names: &[&str]| {
        let mut pairs = cargo.windows(2);
        let pair = pairs.find(|pair| names.contains(&&*pair[0]))?;
        Some(pair[1].clone())
    };
    let features = value(&["--features", "-F"]).unwrap_or_default();
    let features = features.split(',').filter(|name| !name.is_empty());
    let example = value(&["--example"])?;
    Some(Call {
        by_cargo: true,
        package: value(&["--package", "-p"]),
        features: features.map(String::from).collect(),
        ..with_arguments(example, arguments.get(1..).unwrap_or_default())
    })
}

fn with_arguments(example: String, words: &[String]) -> Call {
    let dots = |word: &&String| ["...", "…", "[...]"].contains(&&***word);
    Call {
        example,
        open: words.iter().any(|word| dots(&word)),
        arguments: words.iter().filter(|word| !dots(word)).cloned().collect(),
        ..Call::default()
    }
}

#[test]
fn calls_are_found_behind_other_programs_and_within_quotes() {
    let of = |text: &str, fenced: bool| {
        let code = Code {
            number: 1,
            text: text.into(),
            fenced,
        };
        let found = calls(&code, &["eval", "embed"]).into_iter();
        let found = found.map(|call| format!("{} {}", call.example, call.arguments.join(" ")));
        found.collect::<Vec<_>>().join("; ")
    };
    let line = "X=1 cargo run --release --example eval -- build r > log; embed --a b";
    assert_eq!(of(line, true), "eval build r; embed --a b");
    let line = "mpirun -n 2 target/release/examples/embed --a";
    assert_eq!(of(line, true), "embed --a");
    let line = "sbatch --wrap 'target/debug/examples/embed merge e'";
    assert_eq!(of(line, true), "embed merge e");
    assert_eq!(of("do eval build $i", true), "eval build 0");
    assert_eq!(of("eval build", false), "");
    assert_eq!(of("eval fetch NAME", false), "eval fetch NAME");
    for not_ours in [
        "python eval build r",
        "x.py --on target/release/examples/eval --a",
    ] {
        assert_eq!(of(not_ours, true), "");
    }
    assert_eq!(of("eval \"$(env)\"", true), "");
}
