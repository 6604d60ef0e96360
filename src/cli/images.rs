//! Images that a command line names.

use super::lines;
use anyhow::{Result, bail};
use clip::preprocess::{PixelBatch, Preprocess};
use data::Tally;
use data::folder::images_below;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Expands files, directories (walked recursively, sorted by path) and `.txt` lists of paths. Hidden images and those of
/// formats that are not read are passed over in directories, which standard error tells.
///
/// # Errors
///
/// Names the argument that leads nowhere, and a directory without images.
pub fn image_paths(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let mut passed_over = Tally::default();
            let found = images_below(argument, &mut passed_over)?;
            for dropped in passed_over.dropped() {
                eprintln!("passed over: {dropped}");
            }
            if found.is_empty() {
                bail!("{}: no images in this directory", argument.display());
            }
            paths.extend(found.into_iter().map(|image| argument.join(image.path)));
        } else if argument
            .extension()
            .is_some_and(|extension| extension == "txt")
        {
            let folder = argument.parent().unwrap_or(Path::new(""));
            let lines = lines(argument)?;
            paths.extend(
                lines
                    .iter()
                    .filter(|line| !line.trim().is_empty())
                    .map(|line| folder.join(line)),
            );
        } else if argument.exists() {
            paths.push(argument.clone());
        } else {
            bail!("{}: no such file or directory", argument.display());
        }
    }
    Ok(paths)
}

/// Reads images for a model; those that cannot be read are named on standard error. Gives the paths of the others.
pub fn read_images<'a>(
    preprocess: &Preprocess,
    paths: &'a [PathBuf],
) -> (PixelBatch, Vec<&'a PathBuf>) {
    let (pixels, read) = preprocess.load_batch(paths);
    let mut good = Vec::new();
    for (path, read) in paths.iter().zip(read) {
        match read {
            Ok(()) => good.push(path),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    (pixels, good)
}

/// The exit code of a command that leaves out images that cannot be read: 2 if there were any.
pub fn exit_code(unread: usize) -> ExitCode {
    match unread {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(2),
    }
}
