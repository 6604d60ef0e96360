//! Work in shares, by processes that know nothing of each other.

use super::elsewhere::{explain, in_dashes};
use clap::{Parser, Subcommand};
use files::Shard;
use std::path::{Path, PathBuf};

/// What a command line asks for.
#[derive(Debug)]
pub enum Asked<A> {
    /// The work, or a share of it.
    Work(A),
    /// To put the shares of a file, or of a folder, together.
    Merge(PathBuf),
}

#[derive(Subcommand)]
enum Merge {
    /// Put together what was made with --shard; the result equals, bit for bit, what one process makes
    Merge {
        /// What one process would have written: the --out or --output of the shares
        whole: PathBuf,
    },
}

/// [`parse`](super::parse) of a program whose work may be done in shares: `merge WHOLE` puts them together.
pub fn parse_or_merge<A: Parser>() -> Asked<A> {
    let arguments = std::env::args_os().map(in_dashes);
    let command = Merge::augment_subcommands(A::command())
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .disable_help_subcommand(true);
    let asked = command.try_get_matches_from(arguments).and_then(|matches| {
        if matches.subcommand().is_none() {
            return A::from_arg_matches(&matches).map(Asked::Work);
        }
        <Merge as clap::FromArgMatches>::from_arg_matches(&matches)
            .map(|Merge::Merge { whole }| Asked::Merge(whole))
    });
    asked.unwrap_or_else(|error| explain::<A>(error).exit())
}

/// Where a process writes: the file of its share of `whole`, or `whole` itself.
pub fn output(whole: &Path, shard: Option<Shard>) -> PathBuf {
    shard.map_or_else(|| whole.into(), |shard| shard.path(whole))
}
