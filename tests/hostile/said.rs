//! What readers say of the files of a case.

use std::error::Error;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The folder of a case, and the answers of its readers.
pub struct Said {
    folder: PathBuf,
    /// Messages of refusals, without what differs from case to case.
    pub refusals: Vec<String>,
    /// Errors that do not name the file.
    pub nameless: Vec<String>,
}

/// What is said of a file that another file names: there the path begins the message, wherever it leads.
pub const OTHER: &[&str] = &[
    "(os error",
    "this is no file",
    "NUL byte",
    "/dev/",
    "/etc/",
    "/proc/",
];

impl Said {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.into(),
            refusals: Vec::new(),
            nameless: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file, with the folders that it needs.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a new folder");
        std::fs::write(&path, bytes).expect("a new file");
        path
    }

    /// What a reader of files gives. A refusal must name a file of the case.
    pub fn hear<T, E: Error>(&mut self, answer: Result<T, E>) -> Option<T> {
        self.hear_in(answer, &[])
    }

    /// The same where an error may say `words` in place of a path, the name of a data set for example.
    pub fn hear_in<T, E: Error>(&mut self, answer: Result<T, E>, words: &[&str]) -> Option<T> {
        let error = match answer {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        self.refusals.push(self.plain(&text));
        let folder = self.folder.display().to_string();
        if !text.contains(&folder) && !words.iter().any(|word| text.contains(word)) {
            self.nameless.push(text);
        }
        None
    }

    /// What a reader of bytes gives, who knows no file.
    pub fn hear_of_bytes<T, E: Display>(&mut self, answer: Result<T, E>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) => {
                let text = error.to_string();
                self.refusals.push(self.plain(&text));
                if text.trim().len() < 8 {
                    self.nameless.push(text);
                }
                None
            }
        }
    }

    /// A message by which refusals of different cases are the same.
    fn plain(&self, text: &str) -> String {
        let text = text.replace(&self.folder.display().to_string(), "..");
        let mut plain = String::new();
        for letter in text.chars() {
            match letter {
                _ if plain.len() > 140 => break,
                '0'..='9' if plain.ends_with('#') => {}
                '0'..='9' => plain.push('#'),
                letter if letter.is_ascii() && !letter.is_control() && letter != '\\' => {
                    plain.push(letter);
                }
                _ => plain.push(' '),
            }
        }
        plain
    }
}
