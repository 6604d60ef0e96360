//! What was found wrong with a source that can still be used.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{DataError, Place};
use crate::report::{Dropped, Tally};

/// One unusable thing in a source: a damaged shard, a member, a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in the file.
    pub place: Place,
    /// What is wrong.
    pub what: String,
}

impl Problem {
    pub(crate) fn new(path: &Path, place: Place, what: impl Into<String>) -> Self {
        Self {
            path: path.to_path_buf(),
            place,
            what: what.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.path.display(), self.place, self.what)
    }
}

/// The problems of a source: all are counted, the first [`Problems::KEPT`] are kept.
#[derive(Clone, Debug, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    count: usize,
    tally: Tally,
}

impl Problems {
    /// How many problems are kept with their text; a broken file of millions of rows must not fill
    /// the memory.
    pub const KEPT: usize = 1000;

    /// Number of problems met, kept or not.
    pub fn count(&self) -> usize {
        self.count
    }

    /// True if nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The kept problems, in the order of the data.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.kept.iter()
    }

    /// All problems, counted by reason.
    pub fn by_reason(&self) -> Vec<Dropped> {
        self.tally.dropped()
    }

    pub(crate) fn push(&mut self, problem: Problem) {
        self.count += 1;
        self.tally.add(&problem.what, || {
            format!("{}{}", problem.path.display(), problem.place)
        });
        if self.kept.len() < Self::KEPT {
            self.kept.push(problem);
        }
    }

    /// Adds the problems of another part of the source.
    #[cfg(feature = "parquet")]
    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.tally.append(other.tally);
        let room = Self::KEPT - self.kept.len();
        self.kept.extend(other.kept.into_iter().take(room));
    }

    /// Fails if `bad` of `total` is a larger share than `max_bad`.
    pub(crate) fn check(
        &self,
        name: &str,
        (bad, total, unit): (usize, usize, &'static str),
        max_bad: f64,
    ) -> Result<(), DataError> {
        match self.kept.first() {
            Some(first) if bad as f64 > max_bad * total as f64 => Err(DataError::TooManyBad {
                name: name.to_string(),
                bad,
                total,
                unit,
                max_bad,
                first: Box::new(first.clone()),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_counted_beyond_those_kept() {
        let mut problems = Problems::default();
        for line in 0..1500 {
            problems.push(Problem::new(
                Path::new("a.csv"),
                Place::Line(line + 1),
                "short row",
            ));
        }
        assert_eq!(problems.count(), 1500);
        let by_reason = problems.by_reason();
        assert_eq!((by_reason.len(), by_reason[0].count), (1, 1500));
        assert_eq!(
            by_reason[0].to_string(),
            "1500 × short row (first: a.csv, line 1)"
        );
        assert_eq!(problems.iter().count(), Problems::KEPT);
        assert_eq!(
            problems.iter().nth(1).unwrap().to_string(),
            "a.csv, line 2: short row"
        );
    }

    #[test]
    fn the_share_decides_whether_a_source_fails() {
        let mut problems = Problems::default();
        assert!(problems.check("x", (0, 0, "rows"), 0.0).is_ok());
        problems.push(Problem::new(
            Path::new("a.csv"),
            Place::Line(2),
            "short row",
        ));
        assert!(problems.check("x", (1, 10, "rows"), 0.1).is_ok());
        let error = problems
            .check("x", (2, 10, "rows"), 0.1)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("2 of 10 rows") && error.contains("a.csv, line 2"),
            "{error}"
        );
    }
}
