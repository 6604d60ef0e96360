//! Folders of image files: one sub-folder per class, as torchvision's `ImageFolder` reads them, or
//! a caption file beside each image, as img2dataset's `files` format has them.

mod walk;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use walk::{Listed, images_below, subfolders};

use crate::error::{DataError, Place};
use crate::image_file::read_image;
use crate::problem::{Problem, Problems};
use crate::report::{CaptionCounts, SourceReport, Tally, spread};
use crate::sample::{CaptionKind, Captions, Sample};
use crate::source::{Source, out_of_range};

/// Extensions taken for images, in lower case: all that can be decoded.
pub const IMAGE_EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif"];

/// True if the file name ends like an image's.
pub fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    IMAGE_EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Which folder is read, and how its classes are put into words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FolderConfig {
    /// The folder.
    pub path: PathBuf,
    /// Web captions of a class, `{}` standing for its name. None for samples without captions.
    pub templates: Vec<String>,
    /// A text file with the names of the classes, one per line, in the order of the sorted folders.
    /// If absent, the folders' own names with blanks for `_`.
    pub classnames: Option<PathBuf>,
    /// Share of images without a caption file above which opening fails.
    pub max_bad: f64,
}

impl Default for FolderConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            templates: vec!["a photo of a {}".into()],
            classnames: None,
            max_bad: 0.1,
        }
    }
}

impl FolderConfig {
    /// A folder in the default reading.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}

/// The images of a folder, sorted by path.
///
/// If a `.txt` file of the same name lies beside any image, at whatever depth, the images are those
/// that have one, its lines are their web captions, and there are no classes. Otherwise the images
/// are `path/CLASS/**/IMAGE`: the label is the place of the class among the sorted sub-folders, the
/// web captions its name in all templates.
#[derive(Debug)]
pub struct FolderSource {
    root: PathBuf,
    images: Vec<PathBuf>,
    texts: Texts,
    problems: Problems,
    passed_over: Tally,
}

/// Where captions come from.
#[derive(Debug)]
enum Texts {
    /// The `.txt` beside each image.
    Files,
    /// The classes.
    Classes {
        folders: Vec<String>,
        /// Captions of each class.
        captions: Vec<Vec<String>>,
        /// Class of each image.
        labels: Vec<u32>,
    },
}

impl FolderSource {
    /// Lists the images, see [`images_below`]; what is passed over is told by
    /// [`reports`](Source::reports).
    ///
    /// # Errors
    ///
    /// Fails if there are no images, if more than `max_bad` of them lack the caption file that
    /// others have, if a template has no `{}`, and if `classnames` does not name every class.
    pub fn open(config: FolderConfig) -> Result<Self, DataError> {
        if let Some(template) = config.templates.iter().find(|t| !t.contains("{}")) {
            let what = format!("template `{template}` has no {{}} for the name of the class");
            return Err(DataError::Config(what));
        }
        let root = &config.path;
        let mut passed_over = Tally::default();
        let listed = images_below(root, &mut passed_over)?;
        let mut problems = Problems::default();
        let (images, texts) = if listed.iter().any(|image| image.has_text) {
            let total = listed.len();
            let mut images = Vec::with_capacity(total);
            for Listed { path, has_text } in listed {
                if has_text {
                    images.push(path);
                } else {
                    let what = "no .txt beside the image, as others have";
                    problems.push(Problem::new(&root.join(path), Place::Whole, what));
                }
            }
            let name = root.display().to_string();
            let bad = (problems.count(), total, "images");
            problems.check(&name, bad, config.max_bad)?;
            (images, Texts::Files)
        } else {
            classes(&config, listed, &mut passed_over)?
        };
        if images.is_empty() {
            let what = format!(
                "no images; one folder per class is expected, or a .txt beside each image, the \
                 images being {IMAGE_EXTENSIONS:?}"
            );
            return Err(DataError::malformed(root, Place::Whole, what));
        }
        Ok(Self {
            root: config.path,
            images,
            texts,
            problems,
            passed_over,
        })
    }

    /// Names of the classes' folders, by label; empty where captions are files.
    pub fn class_names(&self) -> &[String] {
        match &self.texts {
            Texts::Files => &[],
            Texts::Classes { folders, .. } => folders,
        }
    }

    /// The images that were left out.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// The captions of an image.
    fn captions(&self, index: usize) -> Result<Captions, DataError> {
        let mut captions = Captions::default();
        match &self.texts {
            Texts::Files => {
                let path = self.root.join(&self.images[index]).with_extension("txt");
                let text = fs::read(&path).map_err(|error| DataError::io(&path, error))?;
                String::from_utf8_lossy(&text)
                    .lines()
                    .for_each(|line| captions.push(CaptionKind::Web, line));
                if captions.is_empty() {
                    let what = "no caption in it; write one per line";
                    return Err(DataError::malformed(&path, Place::Whole, what));
                }
            }
            Texts::Classes {
                captions: of_class,
                labels,
                ..
            } => captions.web.clone_from(&of_class[labels[index] as usize]),
        }
        Ok(captions)
    }
}

impl Source for FolderSource {
    fn len(&self) -> usize {
        self.images.len()
    }

    /// Reads an image, and its caption file if it has one.
    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let name = self
            .images
            .get(index)
            .ok_or_else(|| out_of_range(self, index))?;
        let path = self.root.join(name);
        let image = read_image(&path)?;
        let label = match &self.texts {
            Texts::Files => None,
            Texts::Classes { labels, .. } => Some(labels[index] as usize),
        };
        Ok(Sample {
            key: name.to_string_lossy().into_owned(),
            image,
            captions: self.captions(index)?,
            label,
            embeddings: None,
        })
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }

    fn reports(&self) -> Vec<SourceReport> {
        let captions = spread(self.len()).map(|index| self.captions(index).unwrap_or_default());
        let mut dropped = self.problems.by_reason();
        dropped.extend(self.passed_over.dropped());
        vec![SourceReport {
            name: self.name(),
            samples: self.len(),
            captions: Some(CaptionCounts::of(captions)),
            dropped,
        }]
    }
}

/// The images in class folders, with their classes.
fn classes(
    config: &FolderConfig,
    listed: Vec<Listed>,
    passed_over: &mut Tally,
) -> Result<(Vec<PathBuf>, Texts), DataError> {
    let folders = subfolders(&config.path, &mut Tally::default())?; // counted already
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for Listed { path, .. } in listed {
        // An image that lies outside of any class has a file name only and is not found.
        let class = path.iter().next().unwrap_or_default();
        if let Ok(label) = folders.binary_search_by(|folder| folder.as_os_str().cmp(class)) {
            images.push(path);
            labels.push(label as u32);
        } else {
            let first = || config.path.join(&path).display().to_string();
            passed_over.add("an image outside of any class folder", first);
        }
    }
    let folders: Vec<String> = folders
        .into_iter()
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    let names = match &config.classnames {
        None => folders.iter().map(|name| name.replace('_', " ")).collect(),
        Some(path) => class_names(path, folders.len())?,
    };
    let caption = |name: &String| {
        let templates = config.templates.iter();
        templates.map(|t| t.replace("{}", name)).collect()
    };
    let texts = Texts::Classes {
        captions: names.iter().map(caption).collect(),
        folders,
        labels,
    };
    Ok((images, texts))
}

/// The lines of a file that must name `classes` classes.
fn class_names(path: &Path, classes: usize) -> Result<Vec<String>, DataError> {
    let text = fs::read_to_string(path).map_err(|error| DataError::io(path, error))?;
    let names: Vec<_> = text
        .trim_end()
        .lines()
        .map(|name| name.trim().to_string())
        .collect();
    if let Some(blank) = names.iter().position(String::is_empty) {
        let place = Place::Line(blank as u64 + 1);
        let what = "a blank line; every line names a class";
        return Err(DataError::malformed(path, place, what));
    }
    if names.len() != classes {
        let what = format!(
            "{} names for {classes} class folders; one line per folder is expected, in the order of \
             the folders' sorted names",
            names.len()
        );
        return Err(DataError::malformed(path, Place::Whole, what));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn samples(source: &FolderSource) -> Vec<Sample> {
        (0..source.len()).map(|i| source.get(i).unwrap()).collect()
    }

    fn refusal(config: FolderConfig) -> String {
        FolderSource::open(config).unwrap_err().to_string()
    }

    #[test]
    fn classes_and_images_are_sorted() {
        let root = folder(&[
            ("sea_dog/b.JPEG", "0"),
            ("sea_dog/a.png", "1"),
            ("cat/x/c.jpg", "2"),
            ("cat/notes.txt", "3"),
            ("cat/.d.jpg", "4"),
            ("e.jpg", "5"),
        ]);
        let source = FolderSource::open(FolderConfig::new(root.path())).unwrap();
        assert_eq!(source.class_names(), ["cat", "sea_dog"]);
        let samples = samples(&source);
        let told: Vec<_> = samples
            .iter()
            .map(|s| (s.key.as_str(), s.image[0], s.label))
            .collect();
        assert_eq!(
            told,
            [
                ("cat/x/c.jpg", b'2', Some(0)),
                ("sea_dog/a.png", b'1', Some(1)),
                ("sea_dog/b.JPEG", b'0', Some(1))
            ]
        );
        let report = source.reports()[0].to_string();
        for said in [
            "3 samples; in them 3 web captions",
            "1 × a hidden image",
            "1 × an image outside of any class folder",
        ] {
            assert!(report.contains(said), "{report}");
        }
        assert_eq!(samples[0].captions.web, ["a photo of a cat"]);
        assert_eq!(samples[1].captions.web, ["a photo of a sea dog"]);
    }

    #[test]
    fn classes_are_named_by_a_file_and_put_into_all_templates() {
        let root = folder(&[
            ("images/n01/a.jpg", ""),
            ("images/n02/a.jpg", ""),
            ("names.txt", "tench\ngreat white shark\n"),
            ("few.txt", "tench\n"),
            ("blank.txt", "tench\n\nshark\n"),
        ]);
        let named = |names: &str| FolderConfig {
            templates: vec!["a {}.".into(), "the {}, a {}".into()],
            classnames: Some(root.path().join(names)),
            ..FolderConfig::new(root.path().join("images"))
        };
        let source = FolderSource::open(named("names.txt")).unwrap();
        assert_eq!(source.class_names(), ["n01", "n02"]);
        assert_eq!(
            samples(&source)[1].captions.web,
            [
                "a great white shark.",
                "the great white shark, a great white shark"
            ]
        );
        let few = refusal(named("few.txt"));
        assert!(
            few.contains("few.txt: 1 names for 2 class folders"),
            "{few}"
        );
        let blank = refusal(named("blank.txt"));
        assert!(blank.contains("blank.txt, line 2"), "{blank}");
    }

    #[test]
    fn caption_files_beside_the_images_replace_the_classes() {
        let root = folder(&[
            ("00000/1.jpg", "a"),
            ("00000/1.txt", "one\n\ntwo\n"),
            ("0.PNG", "b"),
            ("0.txt", "zero"),
            ("00000/2.jpg", "c"),
            ("3.jpg", "d"),
            ("3.txt", " \n"),
        ]);
        let config = FolderConfig {
            max_bad: 0.25,
            ..FolderConfig::new(root.path())
        };
        let source = FolderSource::open(config.clone()).unwrap();
        assert_eq!(source.len(), 3);
        assert!(source.class_names().is_empty());
        let told: Vec<_> = (0..2)
            .map(|i| source.get(i).unwrap())
            .map(|s| (s.key, s.captions.web, s.label))
            .collect();
        let strings = |texts: &[&str]| texts.iter().map(|t| t.to_string()).collect::<Vec<_>>();
        assert_eq!(
            told,
            [
                ("0.PNG".to_string(), strings(&["zero"]), None),
                ("00000/1.jpg".to_string(), strings(&["one", "two"]), None)
            ]
        );
        let empty = source.get(2).unwrap_err().to_string();
        assert!(
            empty.contains("3.txt") && empty.contains("no caption"),
            "{empty}"
        );

        let strict = FolderConfig {
            max_bad: 0.2,
            ..config
        };
        let error = refusal(strict);
        assert!(
            error.contains("1 of 4 images") && error.contains("2.jpg"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_or_missing_folder_and_a_template_without_a_place_are_named() {
        let root = folder(&[("e.jpg", "")]);
        let config = FolderConfig::new(root.path());
        let error = refusal(config.clone());
        assert!(error.contains("one folder per class"), "{error}");
        let error = refusal(FolderConfig::new(root.path().join("nowhere")));
        assert!(error.contains("nowhere"), "{error}");
        let plain = FolderConfig {
            templates: vec!["a photo".into()],
            ..config
        };
        assert!(refusal(plain).contains("`a photo` has no {}"));
    }
}
