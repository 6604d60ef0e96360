//! `eval fetch`.

use anyhow::{Result, bail};
use clap::Args;
use clip_burn::eval::datasets::NAMED;
use clip_burn::eval::datasets::collection::{COLLECTIONS, Collection, fetch};
use std::collections::BTreeSet;
use std::process::ExitCode;

#[derive(Args)]
pub struct Fetch {
    /// Data set or collection: cifar10, food101, vtab/dtd, vtab+, imagenet_robustness, sugar_crepe, ...
    name: String,
}

impl Fetch {
    /// Prints shell commands, to be run in the folder that `--root` will name.
    pub fn run(&self) -> Result<ExitCode> {
        let name = self.name.as_str();
        let sets = Collection::find(name).map_or(vec![name], |collection| collection.sets.to_vec());
        let commands: Option<Vec<_>> = sets.iter().map(|set| Some((set, fetch(set)?))).collect();
        let Some(commands) = commands else {
            let named = NAMED.map(|named| named.name).join(", ");
            let collections = COLLECTIONS.map(|collection| collection.name).join(", ");
            bail!("`{name}` is unknown; there are {named}, {collections}, and the sets of these");
        };
        println!("# Run these in the folder that --root will name. Nothing has been downloaded.");
        println!("# Data sets have licences of their own, and some repositories want a login.");
        let mut said = BTreeSet::new();
        for (set, commands) in commands {
            println!("\n# {set}");
            for command in commands {
                if !said.contains(&command) {
                    println!("{command}");
                    said.insert(command);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
