//! Files by someone who means harm: valid containers whose lengths, names, shapes and nesting are hostile.
//!
//! A target makes a file by its format's structure from a seed, with one to three hostile choices, and hands it to the
//! readers that users' files go through. It does so in a process of its own whose memory and time are bounded. A reader
//! may read the file or refuse it; it fails by a panic, by an end of the process, by taking too much memory or time, by an
//! error that does not name the file, and by leaving something half-written.
//!
//! `cargo test` makes a hundred files for each target, always the same. For longer:
//!
//! ```sh
//! HOSTILE_SECONDS=900 HOSTILE_SEED=1000000 cargo test --workspace --test hostile -- --nocapture
//! HOSTILE_CASES=1 HOSTILE_SEED=123 cargo test --workspace --test hostile pickles     # one case again
//! ```
//!
//! A reader that refuses most files at once is hardly attacked: half of the cases of a target, about, should be read whole.
//! `HOSTILE_MESSAGES=1` tells how often it refused what.
//!
//! What fails is kept below `target/tmp/hostile`, with its seed in the name.

mod annotations;
mod arrays;
mod child;
mod configs;
mod dice;
mod json;
mod parent;
mod pickles;
mod pictures;
mod published;
mod recipes;
mod results;
mod runs;
mod said;
mod sentence_pieces;
mod shards;
mod tables;
mod tensors;
mod tokenizers;

use dice::Dice;
use said::Said;

#[global_allocator]
static ALLOCATOR: child::Counting = child::Counting;

/// Writes files into the folder of the case and hands them to their readers.
type Attack = fn(&mut Dice, &mut Said);

macro_rules! targets {
    ($($name:ident: $attack:path, $mebibytes:literal MiB;)*) => {
        /// Name, attack, and memory that its readers may take.
        const TARGETS: &[(&str, Attack, usize)] = &[$((stringify!($name), $attack, $mebibytes << 20)),*];

        $(
            #[test]
            fn $name() {
                parent::attack(stringify!($name));
            }
        )*
    };
}

targets! {
    annotations_are_read_or_refused: annotations::attack, 1024 MiB;
    arrays_are_read_or_refused: arrays::attack, 1024 MiB;
    configs_are_read_or_refused: configs::attack, 1024 MiB;
    pickles_are_read_or_refused: pickles::attack, 1024 MiB;
    // 128 million pixels are allowed, and a decoder has them twice.
    pictures_are_read_or_refused: pictures::attack, 2048 MiB;
    published_data_sets_are_read_or_refused: published::attack, 1024 MiB;
    recipes_are_read_or_refused: recipes::attack, 1024 MiB;
    results_are_read_or_refused: results::attack, 1024 MiB;
    runs_are_read_or_refused: runs::attack, 1024 MiB;
    sentence_pieces_are_read_or_refused: sentence_pieces::attack, 1024 MiB;
    shards_are_read_or_refused: shards::attack, 1024 MiB;
    tables_are_read_or_refused: tables::attack, 1024 MiB;
    tensors_are_read_or_refused: tensors::attack, 1024 MiB;
    tokenizers_are_read_or_refused: tokenizers::attack, 1024 MiB;
}

#[test]
#[ignore = "the process of an attack, which the other tests start"]
fn child() {
    // Of the size that threads have.
    let served = std::thread::spawn(child::serve).join();
    served.expect("panics of attacks are caught");
}
