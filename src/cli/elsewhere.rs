//! Options that people know from open_clip, CLIP_benchmark and Hugging Face, and what they are called here.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use std::ffi::OsString;

/// Reads the command line. Options may be written with underscores, as CLIP_benchmark does; one that is known elsewhere
/// and has another name here is explained. Ends the program as [`Parser::parse`] does.
pub fn parse<A: Parser>() -> A {
    let arguments = std::env::args_os().map(in_dashes);
    A::try_parse_from(arguments).unwrap_or_else(|error| explain::<A>(error).exit())
}

/// `--batch_size=8` → `--batch-size=8`; all but the names of long options stays.
pub(super) fn in_dashes(argument: OsString) -> OsString {
    let Some(text) = argument.to_str().filter(|text| text.starts_with("--")) else {
        return argument;
    };
    let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
    // What looks like a sentence is one: `--` begins a dash in some captions.
    if name.contains(char::is_whitespace) {
        return argument;
    }
    format!("{}{value}", name.replace('_', "-")).into()
}

pub(super) fn explain<A: CommandFactory>(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let trains = A::command().get_arguments().any(|a| a.get_id() == "recipe");
    if let Some(tip) = tip(given, trains) {
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![tip.into()]),
        );
    }
    error
}

/// What an option of another program is here.
fn tip(option: &str, trains: bool) -> Option<String> {
    let name = option.trim_start_matches('-');
    let find = |table: &[(&str, &str)]| {
        let row = table
            .iter()
            .find(|(names, _)| names.split(' ').any(|n| n == name));
        row.map(|(_, here)| here.to_string())
    };
    if !trains {
        return find(MODELS);
    }
    let field = find(RECIPE_FIELDS).map(|field| {
        format!("a field of the recipe, which the command line overrides: --set {field}")
    });
    field.or_else(|| find(TRAINING))
}

/// Options of programs that use a model.
const MODELS: &[(&str, &str)] = &[
    (
        "pretrained pretrained-model",
        "weights are part of --model: a model directory, a checkpoint file (with --config ARCHITECTURE) or \
         hf-hub:ORG/NAME; tags such as `laion2b_s34b_b79k` are not known, the model card names their repository",
    ),
    (
        "num-workers workers",
        "all cores read and prepare images; RAYON_NUM_THREADS=N limits their number",
    ),
    ("amp no-amp", "--precision bf16 or --precision f32"),
    (
        "model-cache-dir cache-dir",
        "HF_HUB_CACHE names the cache of hf-hub: models, which is shared with Python",
    ),
    (
        "save-clf load-clfs",
        "embeddings are kept: `embed`, then --image-features and --text-features",
    ),
    ("wds-cache-dir", "shards are read where they lie: --root"),
    ("annotation-file", "--annotations"),
    (
        "verbose",
        "bars are shown where standard error is a terminal",
    ),
    (
        "text",
        "--texts FILE, one text per line; for a few labels there is `classify --labels`",
    ),
    ("image", "--images"),
];

/// Options of trainers that are fields of a recipe.
const RECIPE_FIELDS: &[(&str, &str)] = &[
    ("lr", "optimizer.lr=..."),
    ("beta1", "optimizer.beta1=..."),
    ("beta2", "optimizer.beta2=..."),
    ("eps", "optimizer.eps=..."),
    ("wd weight-decay", "optimizer.weight_decay=..."),
    ("grad-clip-norm", "optimizer.clip_norm=..."),
    ("warmup", "schedule.warmup=..."),
    ("lr-scheduler", "schedule.curve=..."),
    ("lr-cooldown-end", "schedule.end=..."),
    ("epochs", "run.epochs=..."),
    ("steps max-steps", "run.steps=..."),
    ("seed", "run.seed=..."),
    ("batch-size", "data.loader.batch_size=..."),
    ("workers num-workers", "data.loader.workers=..."),
    ("accum-freq", "run.accumulate=..."),
    ("grad-checkpointing", "run.replay=true"),
    ("name logs output-dir out", "run.out=..."),
    (
        "train-data",
        "data.sources.0.shards=..., or `path` for kinds that are files",
    ),
    ("save-frequency", "checkpoint.every=... (in steps)"),
    ("val-frequency", "log.validate_every=... (in steps)"),
    ("model", "model.name=..."),
    ("pretrained", "model.name=DIR, FILE or hf-hub:ORG/NAME"),
    ("force-image-size image-size", "model.image_size=..."),
    (
        "force-context-length context-length",
        "model.context_length=...",
    ),
    ("lock-image", "groups.lock_image=true"),
    ("lock-text", "groups.lock_text=true"),
    (
        "lock-image-unlocked-groups",
        "groups.lock_image_unlocked=...",
    ),
    (
        "aug-cfg",
        "data.augment.scale=[0.9, 1.0], and its other fields",
    ),
    (
        "val-data imagenet-val imagenet-v2",
        "a table [[validation.zero_shot]] or [[validation.retrieval]]",
    ),
];

/// Options of trainers that are something else.
const TRAINING: &[(&str, &str)] = &[
    (
        "siglip",
        "the loss belongs to the method: a recipe with `loss = \"sigmoid\"` in [method]",
    ),
    (
        "report-to wandb",
        "TensorBoard events and metrics.jsonl are always written",
    ),
    (
        "local-loss gather-with-grad",
        "the loss over all replicas has its full gradient, and is computed in chunks",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_are_taken_in_names_only() {
        for (given, read) in [
            ("--batch_size", "--batch-size"),
            ("--model_name=a_b", "--model-name=a_b"),
            ("my_file.txt", "my_file.txt"),
            ("--set=run.max_bad=1", "--set=run.max_bad=1"),
            ("-- a_b", "-- a_b"),
        ] {
            assert_eq!(in_dashes(given.into()), OsString::from(read));
        }
    }

    #[test]
    fn every_field_that_is_named_exists() {
        // The recipe that lists every field; [validation] is only begun there.
        let recipe = include_str!("../../recipes/clip_vit_b_32.toml");
        for (option, field) in RECIPE_FIELDS {
            let path = field.split('=').next().unwrap();
            let name = path.rsplit('.').next().unwrap();
            let listed = |line: &str| {
                let line = line.trim_start_matches("# ");
                line.split(" =").next() == Some(name)
            };
            assert!(
                path.contains("[[") || recipe.lines().any(listed),
                "{option} → {field}"
            );
        }
    }

    #[test]
    fn what_an_option_is_here_depends_on_the_program() {
        assert!(tip("--pretrained", false).unwrap().contains("--model"));
        assert!(tip("--pretrained", true).unwrap().contains("model.name"));
        assert!(tip("--lr", true).unwrap().contains("--set optimizer.lr"));
        assert_eq!(tip("--lr", false), None);
        assert_eq!(tip("--nonsense", true), None);
    }
}
