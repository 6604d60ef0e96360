//! Captions of one image as triplets: two of them belong together, one of another image does not.

use super::triplets::Triplet;
use data::{DataError, Place, Source};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Images with several captions each, without the images.
pub trait CaptionTable: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The captions of an image, one for each column; blank where it has none.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    fn captions(&self, index: usize) -> Result<Vec<String>, DataError>;

    /// Name of the table.
    fn name(&self) -> String;
}

/// Triplets of a table of captions: of two columns that are drawn, one caption asks for the other, and the negative is what
/// another image has in the column of the positive. With two columns this is LLM2CLIP's coin between short and long.
///
/// Coin and negative belong to the image: they are the same at every visit, as the release draws them once.
pub struct CaptionPairs {
    table: Box<dyn CaptionTable>,
    instructions: Vec<String>,
    seed: u64,
}

/// Draws of another image until its column is filled.
const TRIES: usize = 100;

impl CaptionPairs {
    /// `instructions`: none, one for all, or one for each column of the query.
    ///
    /// # Errors
    ///
    /// When there are fewer than two images, or instructions of another number.
    pub fn new(
        table: Box<dyn CaptionTable>,
        columns: usize,
        instructions: Vec<String>,
        seed: u64,
    ) -> Result<Self, DataError> {
        let (name, n) = (table.name(), instructions.len());
        if table.len() < 2 {
            let what =
                format!("{name}: a negative is another image's caption, and there is no other");
            return Err(DataError::Config(what));
        }
        if n > 1 && n != columns {
            return Err(DataError::Config(format!(
                "{name}: {n} instructions for {columns} columns; give none, one, or one for each column"
            )));
        }
        Ok(Self {
            table,
            instructions,
            seed,
        })
    }
}

impl Source<Triplet> for CaptionPairs {
    fn len(&self) -> usize {
        self.table.len()
    }

    fn get(&self, index: usize) -> Result<Triplet, DataError> {
        let key = format!("{}:{}", self.table.name(), index + 1);
        let captions = self.table.captions(index)?;
        let filled: Vec<usize> = (0..captions.len())
            .filter(|c| !captions[*c].trim().is_empty())
            .collect();
        if filled.len() < 2 {
            return Err(DataError::Config(format!(
                "{key}: fewer than two captions with text"
            )));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index as u64);
        let query = rng.random_range(0..filled.len());
        let positive = (query + rng.random_range(1..filled.len())) % filled.len();
        let (query, positive) = (filled[query], filled[positive]);
        for _ in 0..TRIES {
            let other = (index + rng.random_range(1..self.len())) % self.len();
            // One that cannot be read is no negative either.
            let Ok(mut negative) = self.table.captions(other) else {
                continue;
            };
            if negative[positive].trim().is_empty() {
                continue;
            }
            let instruction = match self.instructions.as_slice() {
                [] => String::new(),
                [one] => one.clone(),
                several => several[query].clone(),
            };
            return Ok(Triplet {
                key,
                instruction,
                query: captions[query].clone(),
                positive: captions[positive].clone(),
                negative: negative.swap_remove(positive),
            });
        }
        Err(DataError::Config(format!(
            "{key}: no other image with a caption in the column of the positive"
        )))
    }

    fn name(&self) -> String {
        self.table.name()
    }
}

/// Columns of a CSV file with a header: CC3M with `short_caption` and `long_caption`, or DreamLIP's. Only the places of the
/// rows are in memory; rows with fewer than two captions are left out.
#[derive(Debug)]
pub struct CsvCaptions {
    path: PathBuf,
    rows: Vec<csv::Position>,
    columns: Vec<usize>,
}

impl CsvCaptions {
    /// Scans a file.
    ///
    /// # Errors
    ///
    /// Names the column that is not there, or the row that is no CSV.
    pub fn open(path: PathBuf, columns: &[String]) -> Result<Self, DataError> {
        let wrong = |place: Place, what: String| DataError::Malformed {
            path: path.clone(),
            place,
            what,
        };
        let mut reader =
            csv::Reader::from_path(&path).map_err(|e| wrong(Place::Whole, e.to_string()))?;
        let header = reader
            .headers()
            .map_err(|e| wrong(Place::Line(1), e.to_string()))?
            .clone();
        let find = |column: &String| {
            header
                .iter()
                .position(|name| name == column)
                .ok_or_else(|| {
                    let there: Vec<_> = header.iter().collect();
                    wrong(
                        Place::Line(1),
                        format!("no column `{column}`; there are {}", there.join(", ")),
                    )
                })
        };
        let columns = columns.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        let (mut rows, mut row) = (Vec::new(), csv::StringRecord::new());
        loop {
            let position = reader.position().clone();
            let read = reader.read_record(&mut row);
            if !read.map_err(|e| wrong(Place::Line(position.line()), e.to_string()))? {
                break;
            }
            let filled = columns
                .iter()
                .filter(|c| !row.get(**c).unwrap_or("").trim().is_empty());
            if filled.count() >= 2 {
                rows.push(position);
            }
        }
        Ok(Self {
            path,
            rows,
            columns,
        })
    }
}

impl CaptionTable for CsvCaptions {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn captions(&self, index: usize) -> Result<Vec<String>, DataError> {
        let position = &self.rows[index];
        let wrong = |what: csv::Error| DataError::Malformed {
            path: self.path.clone(),
            place: Place::Line(position.line()),
            what: what.to_string(),
        };
        let file = File::open(&self.path).map_err(|e| DataError::io(&self.path, e))?;
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_reader(file);
        reader.seek(position.clone()).map_err(wrong)?;
        let mut row = csv::StringRecord::new();
        reader.read_record(&mut row).map_err(wrong)?;
        let caption = |column: &usize| row.get(*column).unwrap_or("").to_string();
        Ok(self.columns.iter().map(caption).collect())
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// Captions of a source of images, by their names.
pub struct CapturedCaptions {
    /// The source.
    pub source: Arc<dyn Source>,
    /// Names of the captions, see [`data::Captions::named`].
    pub columns: Vec<String>,
}

impl CaptionTable for CapturedCaptions {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn captions(&self, index: usize) -> Result<Vec<String>, DataError> {
        let sample = self.source.get(index)?;
        let named = sample.captions.named();
        let caption = |column: &String| {
            let found = named
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(column));
            found.map(|(_, text)| text.to_string()).unwrap_or_default()
        };
        Ok(self.columns.iter().map(caption).collect())
    }

    fn name(&self) -> String {
        self.source.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(folder: &std::path::Path) -> PathBuf {
        let path = folder.join("cc3m.csv");
        let mut text = String::from("id,short_caption,long_caption\n");
        for i in 0..50 {
            text += &format!("{i},s{i},\"l{i},\na second line\"\n");
        }
        text += "50,,l50\n51,s51, \n"; // missing captions are left out
        std::fs::write(&path, text).unwrap();
        path
    }

    fn pairs(path: PathBuf, seed: u64) -> CaptionPairs {
        let columns = ["short_caption", "long_caption"].map(String::from);
        let table = CsvCaptions::open(path, &columns).unwrap();
        let instructions = ["of short", "of long"].map(String::from).to_vec();
        CaptionPairs::new(Box::new(table), 2, instructions, seed).unwrap()
    }

    #[test]
    fn half_of_the_queries_are_short_and_negatives_are_like_positives_of_other_rows() {
        let folder = tempfile::tempdir().unwrap();
        let source = pairs(csv(folder.path()), 3);
        assert_eq!(source.len(), 50);
        let number =
            |text: &str| -> usize { text[1..].split(',').next().unwrap().parse().unwrap() };
        let mut short = 0;
        for index in 0..50 {
            let triplet = source.get(index).unwrap();
            assert_eq!(triplet, source.get(index).unwrap());
            let kinds = [&triplet.query, &triplet.positive, &triplet.negative].map(|t| &t[..1]);
            let expected = match triplet.instruction.as_str() {
                "of short" => ["s", "l", "l"],
                _ => ["l", "s", "s"],
            };
            assert_eq!(kinds, expected);
            short += usize::from(kinds[0] == "s");
            assert_eq!(
                [number(&triplet.query), number(&triplet.positive)],
                [index; 2]
            );
            assert_ne!(number(&triplet.negative), index);
        }
        assert!((15..=35).contains(&short), "{short}");
        let other = pairs(csv(folder.path()), 4);
        assert!((0..50).any(|i| other.get(i).unwrap() != source.get(i).unwrap()));
    }

    #[test]
    fn a_missing_column_is_named_with_those_there_are() {
        let folder = tempfile::tempdir().unwrap();
        let columns = ["short_caption", "longest"].map(String::from);
        let message = CsvCaptions::open(csv(folder.path()), &columns)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("longest") && message.contains("long_caption"),
            "{message}"
        );
    }
}
