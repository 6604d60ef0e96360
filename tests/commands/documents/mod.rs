//! The commands in the documents: each names an example that there is, with options that it knows.
//!
//! Nothing is run: `--help` behind a command makes it read its options and stop.

mod calls;
mod markdown;
mod shell;

use crate::command::{Folder, binary};
use calls::{Call, calls};
use clip_burn::clip::ModelConfig;
use clip_burn::llm2clip::stage1::Plan;
use clip_burn::train::{DataTable, ModelTable, Recipe, TrainError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Documents with commands.
const DOCUMENTS: [&str; 4] = [
    "README.md",
    "CONTRIBUTING.md",
    "bench/README.md",
    "tests/reference/README.md",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Documents by their paths from the root of the repository.
fn documents() -> Vec<String> {
    let guides = root().join("docs").read_dir().unwrap();
    let guides = guides.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let guides = guides.filter(|name| name.ends_with(".md"));
    let mut all: Vec<_> = guides.map(|name| format!("docs/{name}")).collect();
    all.extend(DOCUMENTS.map(String::from));
    all.sort();
    all
}

/// What cargo knows of this package.
struct Package {
    /// Names of the examples, and whether a plain build has them.
    examples: Vec<(String, bool)>,
    features: Vec<String>,
}

impl Package {
    fn read() -> Self {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let table = |name: &str| {
            let parts = manifest.split("\n[").map(str::to_string);
            let name = format!("{name}]");
            parts.filter(move |part| part.starts_with(&name))
        };
        let mut examples: Vec<_> = table("[example]")
            .map(|part| {
                let name = part.split("name = \"").nth(1).unwrap();
                let name = name.split('"').next().unwrap();
                (name.to_string(), !part.contains("required-features"))
            })
            .collect();
        for entry in root().join("examples").read_dir().unwrap() {
            let name = entry.unwrap().path();
            examples.push((name.file_stem().unwrap().to_str().unwrap().into(), true));
        }
        let features = table("features").flat_map(|part| {
            let names = part.lines().filter_map(|line| line.split_once(" = ["));
            names.map(|(name, _)| name.to_string()).collect::<Vec<_>>()
        });
        Self {
            features: features.collect(),
            examples,
        }
    }

    fn check(&self, call: &Call, folder: &Folder) -> Result<(), String> {
        let Call {
            example, arguments, ..
        } = call;
        let Some((_, built)) = self.examples.iter().find(|(name, _)| name == example) else {
            return Err(format!("there is no example {example}"));
        };
        if let Some(package) = call.package.as_ref().filter(|name| *name != "clip-burn") {
            return Err(format!("example {example} is not in package {package}"));
        }
        for feature in &call.features {
            if !self.features.contains(feature) {
                return Err(format!("there is no feature {feature}"));
            }
        }
        let follows = |flag: &'static str| {
            let pairs = arguments.windows(2);
            pairs.filter_map(move |pair| (pair[0] == flag).then_some(&pair[1]))
        };
        for recipe in follows("--recipe").chain(follows("--input")) {
            // Those of users lie elsewhere.
            if recipe.contains("recipes/") {
                let settings: Vec<_> = follows("--set").cloned().collect();
                recipe_is_understood(example, &root().join(recipe), &settings)?;
            }
        }
        for backend in follows("--backend") {
            let name = backend.split(':').next().unwrap();
            let missing = call.features.iter().all(|feature| feature != name);
            if name != "flex" && call.by_cargo && missing {
                return Err(format!("--backend {backend} needs --features {name}"));
            }
            if !self.features.iter().any(|feature| feature == name) {
                return Err(format!("there is no backend {name}"));
            }
        }
        for config in follows("--config") {
            if !config.contains(['/', '.']) {
                ModelConfig::preset(config).map_err(|error| error.to_string())?;
            }
        }
        if !built || arguments.is_empty() {
            return Ok(());
        }
        self.options_are_known(call, folder)
    }

    fn options_are_known(&self, call: &Call, folder: &Folder) -> Result<(), String> {
        let mut arguments = call.arguments.clone();
        // This build may have no other.
        for at in 1..arguments.len() {
            if arguments[at - 1] == "--backend" {
                arguments[at] = "flex".into();
            }
        }
        arguments.push("--help".into());
        let outcome = folder.run(&call.example, &arguments);
        if outcome.code != Some(0) {
            let known = call.open && flags_of_some_subcommand(call, folder);
            // A benchmark without options.
            let known = known || folder.run(&call.example, &["--help"]).code != Some(0);
            return if known { Ok(()) } else { Err(outcome.stderr) };
        }
        if call.open {
            return Ok(());
        }
        // Usage: eval zero-shot [OPTIONS] --dataset <DATASET> --root <ROOT>
        let usage = outcome.stdout.lines();
        let mut usage = usage.filter_map(|line| line.strip_prefix("Usage: "));
        let usage = usage.next().ok_or("its help shows no usage")?;
        let demanded = usage.split(' ').filter(|word| word.starts_with("--"));
        for flag in demanded {
            let given = |word: &String| word.split('=').next().unwrap().replace('_', "-") == flag;
            if !arguments.iter().any(given) {
                return Err(format!("{flag} is missing: {usage}"));
            }
        }
        Ok(())
    }
}

/// The recipe is there, and `--set` changes fields that it may have.
fn recipe_is_understood(example: &str, path: &Path, settings: &[String]) -> Result<(), String> {
    let failed = |error: TrainError| error.to_string();
    if example == "tune_llm" {
        return Plan::load(path, settings, &[]).map(drop).map_err(failed);
    }
    let mut recipe = Recipe::load(path, settings).map_err(failed)?;
    clip_burn::methods::check(&mut recipe).map_err(failed)?;
    recipe.section::<DataTable>().map_err(failed)?;
    recipe.section::<ModelTable>().map(drop).map_err(failed)
}

/// `eval --skip-existing`, in a sentence about all that `eval` does.
fn flags_of_some_subcommand(call: &Call, folder: &Folder) -> bool {
    let help = |subcommand: &[&str]| {
        let arguments = [subcommand, &["--help"]].concat();
        folder.run(&call.example, &arguments).stdout
    };
    let all = help(&[]);
    let listed = all.split("Commands:\n").nth(1).unwrap_or_default();
    let listed = listed.lines().take_while(|line| !line.is_empty());
    let subcommands = listed.filter_map(|line| line.split_whitespace().next());
    let mut helps = subcommands.map(|name| help(&[name]));
    helps.any(|help| {
        let known = |flag: &String| help.split_whitespace().any(|word| word == flag);
        call.arguments.iter().all(known)
    })
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let (package, folder) = (Package::read(), Folder::new());
    let names: Vec<_> = package.examples.iter().map(|(name, _)| &**name).collect();
    assert!(binary("eval").is_file(), "`cargo test` builds the examples");
    let (mut wrong, mut read) = (Vec::new(), 0);
    for document in documents() {
        let text = std::fs::read_to_string(root().join(&document)).unwrap();
        for line in markdown::code(&text) {
            for call in calls(&line, &names) {
                read += 1;
                if let Err(reason) = package.check(&call, &folder) {
                    let place = format!("{document}:{}", line.number);
                    wrong.push(format!("{place}: {}\n    {}", line.text, reason.trim()));
                }
            }
        }
    }
    let [all, found] = [wrong.len(), read];
    assert!(wrong.is_empty(), "{all} of {found}:\n{}", wrong.join("\n"));
    assert!(read >= 80, "only {read} commands were found");
}

#[test]
fn a_command_that_is_wrong_is_found() {
    let (package, folder) = (Package::read(), Folder::new());
    let names: Vec<_> = package.examples.iter().map(|(name, _)| &**name).collect();
    let refused = |command: &str, said: &str| {
        let line = markdown::Code {
            number: 1,
            text: command.into(),
            fenced: true,
        };
        let found = calls(&line, &names);
        assert_eq!(found.len(), 1, "{command}");
        let reason = package.check(&found[0], &folder).unwrap_err();
        assert!(reason.contains(said), "{command}: {reason}");
    };
    refused("cargo run --example evil -- --model m", "no example evil");
    refused("cargo run --features gpu --example eval -- build r", "gpu");
    refused("cargo run -p data --example scenes -- --seed 1", "package");
    refused("eval zero-shot --modle m", "--modle");
    refused("eval zeroshot --model m", "zeroshot");
    refused("eval zero-shot --model m --root r", "--dataset is missing");
    refused("classify --labels a --shard 4", "--shard");
    refused(
        "mpirun -n 2 target/release/examples/train --reciep r",
        "reciep",
    );
    refused("train --recipe recipes/none.toml", "recipes/none.toml");
    let line = "train --recipe laclip/recipes/scenes.toml --set";
    refused(&format!("{line} method.rewrite=2"), "rewrite");
    refused(&format!("{line} run.stesp=2"), "stesp");
    refused(
        "cargo run --example embed -- --backend tch",
        "--features tch",
    );
    refused("convert --from f.pt --config ViT-Z-1 --out o", "ViT-Z-1");
}

/// Workspace crates that each crate depends on, by the manifests; the program is `app`.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = |folder: &str| std::fs::read_to_string(root().join(folder).join("Cargo.toml"));
    let folders = root().read_dir().unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let crates: Vec<_> = folders
        .filter(|name| !["tests", "template", "bench"].contains(&&**name))
        .filter(|name| manifest(name).is_ok())
        .collect();
    let of = |folder: &str| {
        let manifest: toml::Table = manifest(folder).unwrap().parse().unwrap();
        let for_targets = manifest.get("target").and_then(toml::Value::as_table);
        let for_targets = for_targets.into_iter().flat_map(|targets| targets.values());
        let tables = for_targets.filter_map(|target| target.get("dependencies"));
        let tables = tables.chain(manifest.get("dependencies"));
        let names = tables.filter_map(toml::Value::as_table).flatten();
        let names = names.map(|(name, entry)| {
            let package = entry.get("package").and_then(toml::Value::as_str);
            let name = package.unwrap_or(name);
            name.strip_prefix("clip-burn-").unwrap_or(name).to_string()
        });
        names.filter(|name| crates.contains(name)).collect()
    };
    let mut found: BTreeMap<_, _> = crates.iter().map(|name| (name.clone(), of(name))).collect();
    found.insert("app".into(), of("."));
    found
}

#[test]
fn the_picture_of_the_crates_is_what_the_manifests_say() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let picture = text.split("flowchart TD").nth(1).unwrap();
    let picture = picture.split("```").next().unwrap();
    let mut drawn: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in picture.lines().filter(|line| !line.trim().is_empty()) {
        let (from, to) = line.split_once(" --> ").unwrap_or((line, ""));
        let from = from.trim().split('[').next().unwrap();
        let to = to.split(" & ").filter(|name| !name.is_empty());
        drawn
            .entry(from.into())
            .or_default()
            .extend(to.map(String::from));
    }
    let real = dependencies();
    assert_eq!(
        drawn.keys().collect::<Vec<_>>(),
        real.keys().collect::<Vec<_>>()
    );
    for (from, to) in &real {
        let arrows = &drawn[from];
        assert!(
            arrows.is_subset(to),
            "{from} → {arrows:?} is drawn, but it uses {to:?}"
        );
        let mut below = arrows.clone();
        while let Some(more) = below
            .iter()
            .flat_map(|name| &drawn[name])
            .find(|name| !below.contains(*name))
            .cloned()
        {
            below.insert(more);
        }
        assert!(
            to.is_subset(&below),
            "{from} uses {to:?}, but what is drawn below it is {below:?}"
        );
    }
}
