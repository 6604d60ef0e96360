//! Annotations with one JSON object per line: `{"image": "a.jpg", "caption": "..."}`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::captions::{CaptionField, FieldsSeen, read_fields};
use crate::error::{DataError, Place};
use crate::image_file::read_image;
use crate::lines::{LineEnd, Lines, MappedFile};
use crate::problem::{Problem, Problems};
use crate::report::{CaptionCounts, SourceReport, spread};
use crate::sample::{CaptionKind, Captions, Sample};
use crate::source::{Source, out_of_range};

/// Which annotations are read, and what their fields mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JsonlConfig {
    /// The annotations.
    pub path: PathBuf,
    /// Folder that relative image paths start from, if not the working directory.
    pub root: Option<PathBuf>,
    /// The field of image paths.
    pub image: String,
    /// The fields of captions: strings, or lists of strings.
    pub captions: Vec<CaptionField>,
    /// The field of class indices, if there is one.
    pub label: Option<String>,
    /// Share of skipped lines above which opening fails.
    pub max_bad: f64,
}

impl Default for JsonlConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            root: None,
            image: "image".into(),
            captions: vec![CaptionField::new("caption", CaptionKind::Web)],
            label: None,
            max_bad: 0.1,
        }
    }
}

impl JsonlConfig {
    /// Annotations with the fields `image` and `caption`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }
}

/// The annotations of a file, in their order.
#[derive(Debug)]
pub struct JsonlSource {
    config: JsonlConfig,
    lines: Lines,
    /// The usable lines.
    usable: Vec<u32>,
    problems: Problems,
    counts: CaptionCounts,
}

impl JsonlSource {
    /// Scans the annotations. Images are not looked at; blank lines are passed over; lines that are
    /// no object, or lack an image path or a caption, are skipped and told by
    /// [`JsonlSource::problems`].
    ///
    /// # Errors
    ///
    /// Fails if more than `max_bad` of the lines are skipped, if none is left, and if a configured
    /// field of captions stands in no line.
    pub fn open(config: JsonlConfig) -> Result<Self, DataError> {
        let lines = Lines::new(MappedFile::open(&config.path)?, LineEnd::Newline);
        let (mut usable, mut problems) = (Vec::new(), Problems::default());
        let mut fields = FieldsSeen::default();
        lines.for_each(|index, line| {
            if line.trim_ascii().is_empty() {
                return;
            }
            match object(line).and_then(|object| {
                fields.see(&object, &config.captions);
                row(&config, &object)
            }) {
                Ok(_) => usable.push(index as u32),
                Err(what) => problems.push(Problem::new(
                    &config.path,
                    Place::Line(index as u64 + 1),
                    what,
                )),
            }
        });
        let name = config.path.display().to_string();
        problems.check(
            &name,
            (problems.count(), usable.len() + problems.count(), "lines"),
            config.max_bad,
        )?;
        if let Some(what) = fields.absent(&config.captions) {
            return Err(DataError::malformed(&config.path, Place::Whole, what));
        }
        if usable.is_empty() {
            let what = match problems.iter().next() {
                Some(first) => format!("no usable line; the first problem: {first}"),
                None => "no lines".into(),
            };
            return Err(DataError::malformed(&config.path, Place::Whole, what));
        }
        let captions = spread(usable.len()).filter_map(|index| {
            let object = object(lines.get(usable[index] as usize)).ok()?;
            Some(row(&config, &object).ok()?.captions)
        });
        let counts = CaptionCounts::of(captions);
        Ok(Self {
            config,
            lines,
            usable,
            problems,
            counts,
        })
    }

    /// What was skipped.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }
}

impl Source for JsonlSource {
    fn len(&self) -> usize {
        self.usable.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let line = *self
            .usable
            .get(index)
            .ok_or_else(|| out_of_range(self, index))?;
        let row =
            object(self.lines.get(line as usize)).and_then(|object| row(&self.config, &object));
        let row = row.map_err(|what| {
            DataError::malformed(&self.config.path, Place::Line(u64::from(line) + 1), what)
        })?;
        let path = match &self.config.root {
            Some(root) => root.join(&row.image),
            None => PathBuf::from(&row.image),
        };
        let image = read_image(&path)?;
        Ok(Sample {
            key: row.image,
            image,
            captions: row.captions,
            label: row.label,
            embeddings: None,
        })
    }

    fn name(&self) -> String {
        self.config.path.display().to_string()
    }

    fn reports(&self) -> Vec<SourceReport> {
        vec![SourceReport {
            name: self.name(),
            samples: self.len(),
            captions: (!self.config.captions.is_empty()).then_some(self.counts),
            dropped: self.problems.by_reason(),
        }]
    }
}

struct Row {
    image: String,
    captions: Captions,
    label: Option<usize>,
}

fn object(line: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(line).map_err(|e| format!("no JSON object: {e}"))
}

fn row(config: &JsonlConfig, object: &Map<String, Value>) -> Result<Row, String> {
    let Some(image) = object.get(&config.image).and_then(Value::as_str) else {
        return Err(format!("no image path in `{}`", config.image));
    };
    let mut captions = Captions::default();
    read_fields(object, &config.captions, &mut captions);
    if captions.is_empty() && !config.captions.is_empty() {
        return Err("no caption in any of the configured fields".into());
    }
    let label = match &config.label {
        None => None,
        Some(field) => match object.get(field).and_then(Value::as_u64) {
            Some(label) => Some(label as usize),
            None => return Err(format!("no class index in `{field}`")),
        },
    };
    Ok(Row {
        image: image.to_string(),
        captions,
        label,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn annotations_are_read_and_bad_lines_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(folder.path().join("0.jpg"), [7]).unwrap();
        let lines = [
            r#"{"image": "0.jpg", "caption": ["a", "b"], "class": 4}"#,
            "",
            r#"{"image": "0.jpg"}"#,
            r#"{"caption": "a"}"#,
            r#"{"image": "0.jpg", "caption": "c", "class": 5}"#,
            "{broken",
        ];
        fs::write(&path, lines.join("\n")).unwrap();
        let config = JsonlConfig {
            root: Some(folder.path().into()),
            label: Some("class".into()),
            max_bad: 0.6,
            ..JsonlConfig::new(&path)
        };
        let source = JsonlSource::open(config.clone()).unwrap();
        assert_eq!(source.len(), 2);
        let sample = source.get(0).unwrap();
        assert_eq!(
            (sample.image, sample.captions.web, sample.label),
            (vec![7], vec!["a".into(), "b".into()], Some(4))
        );
        assert_eq!(source.get(1).unwrap().label, Some(5));
        let places: Vec<_> = source.problems().iter().map(|p| p.place.clone()).collect();
        assert_eq!(places, [Place::Line(3), Place::Line(4), Place::Line(6)]);
        let error = JsonlSource::open(JsonlConfig {
            max_bad: 0.1,
            ..config
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("3 of 5 lines"), "{error}");
        let report = source.reports()[0].to_string();
        let said = "2 samples; in them 3 web captions, 0 rewrites, 0 synthetic captions; left out: 1 × no caption in";
        assert!(report.contains(said), "{report}");
    }

    #[test]
    fn a_caption_field_that_stands_in_no_line_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let lines = r#"{"image": "0.jpg", "caption": "a", "rewrite": ["b"]}"#;
        fs::write(&path, lines).unwrap();
        let config = JsonlConfig {
            captions: vec![
                CaptionField::new("caption", CaptionKind::Web),
                CaptionField::new("rewrites", CaptionKind::Rewrite),
            ],
            ..JsonlConfig::new(&path)
        };
        let error = JsonlSource::open(config).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl: no field `rewrites`")
                && error.contains("caption, image, rewrite"),
            "{error}"
        );
    }
}
