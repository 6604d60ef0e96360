//! Images that a command line names.

use super::lines;
use anyhow::{Context, Result, bail};
use clip::preprocess::{PixelBatch, Preprocess};
use data::folder::is_image_name;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Expands files, directories (walked recursively, sorted by path) and `.txt` lists of paths.
///
/// # Errors
///
/// Names the argument that leads nowhere, and a directory without images.
pub fn image_paths(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for argument in arguments {
        if argument.is_dir() {
            let mut found = Vec::new();
            walk(argument, &mut found)?;
            if found.is_empty() {
                bail!("{}: no images in this directory", argument.display());
            }
            found.sort();
            paths.append(&mut found);
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

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = folder
        .read_dir()
        .with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else if is_image_name(&path) {
            found.push(path);
        }
    }
    Ok(())
}
