//! Recipes, and the first step of runs by them.

use crate::{Dice, Said};
use burn::backend::{Autodiff, Flex};
use clip_burn::data::{Loader, Sample};
use clip_burn::methods;
use clip_burn::train::{DataTable, Launch, ModelTable, Recipe, Stop};
use std::path::Component;

/// Lines of a recipe that is sound, with other values of their kind.
const LINES: &[&str] = &[
    "[run]",
    "out = \"out\"",
    "steps = 1",
    "seed = 0",
    "accumulate = 1",
    "replay = false",
    "logit_scale_range = [0.0, 4.6]",
    "max_skipped = 3",
    "check_every = 1",
    "ema = 0.9",
    "[model]",
    "name = \"tiny\"",
    "precision = \"f32\"",
    "[method]",
    "name = \"clip\"",
    "[optimizer]",
    "lr = 1e-3",
    "beta1 = 0.9",
    "beta2 = 0.98",
    "eps = 1e-6",
    "weight_decay = 0.1",
    "clip_norm = 1.0",
    "[schedule]",
    "warmup = 0",
    "curve = \"cosine\"",
    "end = 0.0",
    "cooldown = 0",
    "power = 1.0",
    "[checkpoint]",
    "every = 0",
    "keep = 2",
    "[log]",
    "every = 1",
    "validate_every = 0",
    "tensorboard = false",
    "progress = false",
    "[data.loader]",
    "batch_size = 2",
    "workers = 1",
    "ahead = 2",
    "max_bad = 0.1",
    "[data.augment]",
    "scale = [0.9, 1.0]",
    "ratio = [0.75, 1.33]",
    "hflip_prob = 0.5",
    "color_jitter = [0.4, 0.4, 0.4, 0.1]",
    "color_jitter_prob = 0.5",
    "[data.order]",
    "kind = \"windowed\"",
    "block = 2",
    "window = 2",
    "[data.draw]",
    "kind = \"upsampled\"",
    "factors = [1.0]",
    "[[data.sources]]",
    "kind = \"scenes\"",
    "world = { image_size = 16, train_size = 8, validation_size = 2, test_size = 2, shapes = 2, colours = 2, max_objects = 1 }",
];

/// Lines that may stand in a table beside its own.
const MORE: &[(&str, &str)] = &[
    ("[model]", "context_length = 8"),
    ("[model]", "image_size = 32"),
    ("[model]", "init_logit_scale = 2.0"),
    ("[model]", "init_logit_bias = 0.0"),
    ("[run]", "epochs = 1"),
    ("[groups]", "layer_decay = 0.9"),
];

pub fn attack(dice: &mut Dice, said: &mut Said) {
    let (text, overrides) = dice.evenly(recipe);
    let path = said.write("recipe.toml", text);
    let Some(recipe) = said.hear(Recipe::load(&path, &overrides)) else {
        return;
    };
    said.hear(Recipe::parse(&recipe.to_toml()));
    let mut tables = recipe.clone();
    said.hear_in(methods::check(&mut tables), &["method"]);
    said.hear(tables.section::<ModelTable>());
    if let Some(data) = said.hear(tables.section::<DataTable>())
        // The engine's errors of settings name the field; whoever started the run knows the recipe.
        && let Some((source, sampler)) = said.hear_in(data.open(0, 0, 1), &["opening the data", "[[data.sources]]"])
    {
        let loader = Loader::new(source, sampler, data.loader, |samples: Vec<Sample>, _| {
            Ok(samples.len())
        });
        for batch in said.hear_of_bytes(loader).into_iter().flatten().take(2) {
            said.hear_of_bytes(batch);
        }
    }
    // A run writes where the recipe says.
    let out = recipe.out();
    let inside = out.starts_with(said.path(""))
        && !out.components().any(|part| part == Component::ParentDir);
    if inside && dice.below(6) == 0 {
        let launch = Launch {
            stop: Stop::default(),
            ..Launch::default()
        };
        launch.stop.stop();
        let device = Default::default();
        said.hear_of_bytes(methods::train::<Autodiff<Flex>>(recipe, &launch, device));
    }
}

/// A recipe, and what is said in its stead on a command line.
fn recipe(dice: &mut Dice) -> (Vec<u8>, Vec<String>) {
    let mut text = String::new();
    for line in LINES {
        if !(line.starts_with("steps") && dice.bad()) {
            text += &changed(dice, line);
            text += "\n";
        }
        for (_, more) in MORE.iter().filter(|(table, _)| table == line) {
            if dice.bad() {
                text += &changed(dice, more);
                text += "\n";
            }
        }
    }
    let mut overrides = Vec::new();
    while dice.bad() {
        let line = *dice.pick(LINES);
        let (table, value) = (
            *dice.pick(&[
                "run",
                "data.loader",
                "data.sources.0.world",
                "data.sources.9",
                "",
                "optimizer",
            ]),
            changed(dice, line),
        );
        overrides.push(format!("{table}.{value}"));
    }
    (dice.mangled(text.into_bytes()), overrides)
}

/// The line, or one whose value is hostile.
fn changed(dice: &mut Dice, line: &str) -> String {
    if !dice.bad() {
        return line.to_string();
    }
    let numbers: Vec<usize> = line
        .match_indices(|c: char| c.is_ascii_digit())
        .map(|(at, _)| at)
        .collect();
    let begins = |at: &usize| {
        !line[..*at]
            .ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-')
    };
    let starts: Vec<usize> = numbers.into_iter().filter(begins).collect();
    if starts.is_empty() && dice.below(3) > 0 {
        return line.to_string();
    }
    if starts.is_empty() || dice.below(8) == 0 {
        let key = line.split('=').next().unwrap_or_default();
        return match dice.below(4) {
            0 => format!("{key}= {:?}", dice.text()),
            1 => format!("{key}= {}1{}", "[".repeat(300), "]".repeat(300)),
            2 => format!("{line}\n{line}"),
            _ => dice.text(),
        };
    }
    let start = *dice.pick(&starts);
    let length = line[start..]
        .find(|c: char| !(c.is_ascii_digit() || ".e-_".contains(c)))
        .unwrap_or(line.len() - start);
    let value = match dice.below(4) {
        0 => (dice.number() >> 1).to_string(),
        1 => format!("-{}", dice.number() >> 1),
        2 => (*dice.pick(&["nan", "inf", "-inf", "0.0", "-0.5", "1e308", "5e-324"])).to_string(),
        _ => dice.number().to_string(),
    };
    format!("{}{value}{}", &line[..start], &line[start + length..])
}
