//! What a language model is, in a few letters: vectors of one must not be taken for another's.

use crate::error::{Error, Result};
use llm::EncoderOptions;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Files that decide what a text's vector is.
fn decides(name: &str) -> bool {
    let weights = [".safetensors", ".bin", ".pth"];
    let others = [
        "adapter_config.json",
        "config.json",
        "params.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    ];
    weights.iter().any(|end| name.ends_with(end)) || others.contains(&name)
}

/// The first sixteen hexadecimal digits of a SHA-256 over the weights, the architecture and the tokenizer of a directory,
/// and over how a text becomes a vector. Reads all files once; where they lie makes no difference. That of an adapter's directory
/// counts the files of its base, too.
///
/// # Errors
///
/// Names the file that cannot be read.
pub fn identity(directory: &Path, options: &EncoderOptions) -> Result<String> {
    let directory = &clip::local_directory(&directory.to_string_lossy())?;
    let base = llm::adapter_base(directory)?;
    let base = base.map(|base| identity(&base, options)).transpose()?;
    let mut files: Vec<PathBuf> = directory
        .read_dir()
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .map_err(Error::io(directory))?;
    let name = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    files.retain(|path| decides(&name(path)));
    files.sort();
    let mut hash = Sha256::new();
    hash.update(serde_json::to_string(options).expect("plain fields"));
    hash.update(base.unwrap_or_default());
    for path in files {
        let mut file = std::fs::File::open(&path).map_err(Error::io(&path))?;
        hash.update(format!("\n{} ", name(&path)));
        let mut of_file = Sha256::new();
        std::io::copy(&mut file, &mut of_file).map_err(Error::io(&path))?;
        hash.update(of_file.finalize());
    }
    let digest = hash.finalize();
    Ok(digest.iter().take(8).map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use llm::{Pooling, Template};

    #[test]
    fn weights_and_options_make_another_model_and_the_place_does_not() {
        let make = |weights: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("model.safetensors"), weights).unwrap();
            std::fs::write(folder.path().join("config.json"), "{}").unwrap();
            folder
        };
        let options = EncoderOptions::new(Template::llama3());
        let (a, b, c) = (make("a"), make("a"), make("c"));
        let of = |folder: &tempfile::TempDir, options| identity(folder.path(), options).unwrap();
        assert_eq!(of(&a, &options), of(&b, &options));
        assert_ne!(of(&a, &options), of(&c, &options));
        std::fs::write(b.path().join("README.md"), "read me").unwrap();
        assert_eq!(of(&a, &options), of(&b, &options));
        let other = EncoderOptions {
            pooling: Pooling::Last,
            ..options.clone()
        };
        assert_ne!(of(&a, &options), of(&a, &other));
    }
}
