//! A source whose samples have the vectors of their captions.

use std::fmt;
use std::sync::Arc;

use super::part::hash_of;
use super::{Row, Store};
use crate::embeddings::StoredEmbeddings;
use crate::error::{DataError, Place};
use crate::report::{SourceReport, spread};
use crate::sample::{Captions, Sample};
use crate::source::Source;

/// A source joined with the stores of its captions. Samples are found by their keys, in whatever order the stores have
/// them; each caption is compared with the one that was embedded.
#[derive(Clone, Debug)]
pub struct WithStore<S> {
    source: S,
    stores: Vec<Arc<Store>>,
}

impl<S: Source> WithStore<S> {
    /// Joins them, after a look at some samples.
    ///
    /// # Errors
    ///
    /// When one of these has no vectors, or other captions than those that were embedded.
    pub fn new(source: S, stores: Vec<Arc<Store>>) -> Result<Self, DataError> {
        let joined = Self::unchecked(source, stores);
        for index in spread(joined.len()) {
            // What cannot be read is met again when it is loaded.
            if let Ok(sample) = joined.source.get(index) {
                joined.find(&sample)?;
            }
        }
        Ok(joined)
    }

    /// Joins them without a look at any sample; each is compared when it is read.
    pub fn unchecked(source: S, stores: Vec<Arc<Store>>) -> Self {
        Self { source, stores }
    }

    /// Compares every caption with the one that was embedded.
    ///
    /// # Errors
    ///
    /// Names the first sample that has no vectors or another caption, or that cannot be read.
    pub fn verify(&self) -> Result<(), DataError> {
        for index in 0..self.len() {
            self.find(&self.source.get(index)?)?;
        }
        Ok(())
    }

    fn find(&self, sample: &Sample) -> Result<StoreRow, DataError> {
        let mut problem = None;
        for store in &self.stores {
            let Some(row) = store.row(&sample.key) else {
                continue;
            };
            let fields = &store.info.fields;
            let captions = row_of(&sample.key, &sample.captions, fields).captions;
            let changed =
                (0..fields.len()).find(|f| store.caption(row, *f) != hash_of(&captions[*f]));
            let Some(field) = changed else {
                return Ok(StoreRow {
                    store: store.clone(),
                    row,
                });
            };
            let what = format!(
                "the caption `{}` is another one than the one that was embedded; run embed_captions again",
                fields[field]
            );
            let key = Place::Member(sample.key.clone());
            problem = Some(DataError::malformed(&store.folder, key, what));
        }
        Err(problem.unwrap_or_else(|| {
            let stores: Vec<_> = self
                .stores
                .iter()
                .map(|s| s.folder.display().to_string())
                .collect();
            DataError::Config(format!(
                "{}: no embedding of sample `{}` in {}; run embed_captions on this source",
                self.source.name(),
                sample.key,
                stores.join(", ")
            ))
        }))
    }
}

/// What a sample brings into a store of these captions.
pub(crate) fn row_of(key: &str, captions: &Captions, fields: &[String]) -> Row {
    let named = captions.named();
    let caption = |field: &String| {
        let found = named
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(field));
        found.map(|(_, text)| text.to_string())
    };
    Row {
        key: key.to_string(),
        captions: fields.iter().map(caption).collect(),
    }
}

impl Row {
    /// What a sample brings into a store of these captions.
    pub fn of(sample: &Sample, fields: &[String]) -> Self {
        row_of(&sample.key, &sample.captions, fields)
    }
}

impl<S: Source> Source for WithStore<S> {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.source.get(index)?;
        sample.embeddings = Some(StoredEmbeddings::Store(self.find(&sample)?));
        Ok(sample)
    }

    fn name(&self) -> String {
        self.source.name()
    }

    fn reports(&self) -> Vec<SourceReport> {
        self.source.reports()
    }
}

/// The vectors of one sample in a store.
#[derive(Clone)]
pub struct StoreRow {
    store: Arc<Store>,
    row: usize,
}

impl StoreRow {
    /// The captions of the sample that have one.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        let fields = self.store.info.fields.iter().enumerate();
        let there = fields.filter(|(field, _)| self.store.caption(self.row, *field) != 0);
        there.map(|(_, name)| name.as_str())
    }

    /// Reads the vector of one caption; upper or lower case does not matter.
    ///
    /// # Errors
    ///
    /// When there is none, or a number is not finite.
    pub fn read(&self, field: &str) -> Result<Vec<f32>, DataError> {
        let fields = self.store.info.fields.iter();
        let found = fields.enumerate().find(|(place, name)| {
            name.eq_ignore_ascii_case(field) && self.store.caption(self.row, *place) != 0
        });
        let Some((place, _)) = found else {
            let names: Vec<_> = self.fields().collect();
            let what = format!(
                "no embedding `{field}` of this sample; there are {}",
                names.join(", ")
            );
            let row = Place::Row(self.row as u64);
            return Err(DataError::malformed(&self.store.folder, row, what));
        };
        self.store.vector(self.row, place)
    }
}

impl PartialEq for StoreRow {
    fn eq(&self, other: &Self) -> bool {
        (&self.store.folder, self.row) == (&other.store.folder, other.row)
    }
}

impl fmt::Debug for StoreRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {} of {}", self.row, self.store.folder.display())
    }
}
