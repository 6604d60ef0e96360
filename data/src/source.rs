//! Where samples come from.

use std::ops::Range;
use std::sync::Arc;

use crate::error::DataError;
use crate::report::SourceReport;
use crate::sample::Sample;

/// A finite collection of samples with random access: of images with captions, if not said
/// otherwise, or of whatever a method learns from ([`Line`](crate::text::Line)s of text, say).
///
/// The order in which samples are visited is not the source's business: see
/// [`Sampler`](crate::Sampler).
pub trait Source<S = Sample>: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Reads one sample. The same index always gives the same sample.
    fn get(&self, index: usize) -> Result<S, DataError>;

    /// A short name for logs and messages, such as the pattern or path it was opened with.
    fn name(&self) -> String;

    /// The address that a sample was downloaded from, where the source knows it.
    fn url(&self, _index: usize) -> Result<Option<String>, DataError> {
        Ok(None)
    }

    /// What it holds, what was left out and why: one report, or one for each part of a mixture.
    fn reports(&self) -> Vec<SourceReport> {
        vec![SourceReport {
            name: self.name(),
            samples: self.len(),
            ..SourceReport::default()
        }]
    }

    /// True if there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A sample that can be named in messages.
pub trait Keyed {
    /// Name of the sample inside its source.
    fn key(&self) -> &str;
}

impl Keyed for Sample {
    fn key(&self) -> &str {
        &self.key
    }
}

impl<T, S: Source<T> + ?Sized> Source<T> for Arc<S> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<T, DataError> {
        (**self).get(index)
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn url(&self, index: usize) -> Result<Option<String>, DataError> {
        (**self).url(index)
    }

    fn reports(&self) -> Vec<SourceReport> {
        (**self).reports()
    }
}

impl<T, S: Source<T> + ?Sized> Source<T> for Box<S> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<T, DataError> {
        (**self).get(index)
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn url(&self, index: usize) -> Result<Option<String>, DataError> {
        (**self).url(index)
    }

    fn reports(&self) -> Vec<SourceReport> {
        (**self).reports()
    }
}

/// Some samples of another source, in a given order.
pub struct Subset<S> {
    source: S,
    indices: Indices,
}

enum Indices {
    Range(Range<usize>),
    List(Vec<usize>),
}

impl<S> Subset<S> {
    /// The samples of `source` at `indices`. Fails if one is out of range.
    pub fn new<T>(source: S, indices: Vec<usize>) -> Result<Self, DataError>
    where
        S: Source<T>,
    {
        match indices.iter().find(|index| **index >= source.len()) {
            Some(index) => Err(out_of_range(&source, *index)),
            None => Ok(Self {
                source,
                indices: Indices::List(indices),
            }),
        }
    }

    /// The first `n` samples of `source`, or all if there are fewer.
    pub fn limit<T>(source: S, n: usize) -> Self
    where
        S: Source<T>,
    {
        let n = n.min(source.len());
        Self {
            source,
            indices: Indices::Range(0..n),
        }
    }
}

impl<T, S: Source<T>> Source<T> for Subset<S> {
    fn len(&self) -> usize {
        match &self.indices {
            Indices::Range(range) => range.len(),
            Indices::List(list) => list.len(),
        }
    }

    fn get(&self, index: usize) -> Result<T, DataError> {
        let inner = match &self.indices {
            Indices::Range(range) => range.clone().nth(index),
            Indices::List(list) => list.get(index).copied(),
        };
        self.source
            .get(inner.ok_or_else(|| out_of_range(self, index))?)
    }

    fn name(&self) -> String {
        let len = Source::<T>::len(self);
        format!("{len} samples of {}", self.source.name())
    }

    /// The whole source's, and what is taken of it.
    fn reports(&self) -> Vec<SourceReport> {
        let mut reports = self.source.reports();
        reports.push(SourceReport {
            name: Source::<T>::name(self),
            samples: Source::<T>::len(self),
            ..SourceReport::default()
        });
        reports
    }
}

/// Several sources one after another.
///
/// How often each is visited is decided by [`Draw`](crate::Draw), which needs [`Mixture::lens`].
pub struct Mixture<S = Sample> {
    parts: Vec<Box<dyn Source<S>>>,
    /// `ends[i]` is the number of samples in parts `0..=i`.
    ends: Vec<usize>,
}

impl<S> Mixture<S> {
    /// Joins `parts` in their order.
    pub fn new(parts: Vec<Box<dyn Source<S>>>) -> Self {
        let ends = parts
            .iter()
            .scan(0, |end, part| {
                *end += part.len();
                Some(*end)
            })
            .collect();
        Self { parts, ends }
    }

    /// Number of samples of each part.
    pub fn lens(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.len()).collect()
    }
}

impl<S> Source<S> for Mixture<S> {
    fn len(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize) -> Result<S, DataError> {
        let part = self.ends.partition_point(|end| *end <= index);
        let start = if part == 0 { 0 } else { self.ends[part - 1] };
        match self.parts.get(part) {
            Some(source) => source.get(index - start),
            None => Err(out_of_range(self, index)),
        }
    }

    fn name(&self) -> String {
        self.parts
            .iter()
            .map(|part| part.name())
            .collect::<Vec<_>>()
            .join("::")
    }

    fn reports(&self) -> Vec<SourceReport> {
        self.parts.iter().flat_map(|part| part.reports()).collect()
    }
}

/// The error of a source asked for a sample it does not have.
pub(crate) fn out_of_range<T>(source: &(impl Source<T> + ?Sized), index: usize) -> DataError {
    DataError::OutOfRange {
        name: source.name(),
        index,
        len: source.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `len` samples whose keys are the name and the index.
    struct Numbers(&'static str, usize);

    impl Source for Numbers {
        fn len(&self) -> usize {
            self.1
        }

        fn get(&self, index: usize) -> Result<Sample, DataError> {
            if index >= self.1 {
                return Err(out_of_range(self, index));
            }
            Ok(Sample {
                key: format!("{}{index}", self.0),
                ..Sample::default()
            })
        }

        fn name(&self) -> String {
            self.0.to_string()
        }
    }

    fn keys(source: &impl Source) -> Vec<String> {
        (0..source.len())
            .map(|i| source.get(i).unwrap().key)
            .collect()
    }

    #[test]
    fn a_mixture_lists_its_parts_in_order() {
        let parts: Vec<Box<dyn Source>> = vec![
            Box::new(Numbers("a", 2)),
            Box::new(Numbers("b", 0)),
            Box::new(Numbers("c", 3)),
        ];
        let mixture = Mixture::new(parts);
        assert_eq!(keys(&mixture), ["a0", "a1", "c0", "c1", "c2"]);
        assert_eq!(mixture.lens(), [2, 0, 3]);
        assert_eq!(mixture.name(), "a::b::c");
        let error = mixture.get(5).unwrap_err().to_string();
        assert!(
            error.contains("sample 5") && error.contains("only 5"),
            "{error}"
        );
    }

    /// A source of something else than images: anything will do.
    struct Words(Vec<&'static str>);

    impl Source<String> for Words {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn get(&self, index: usize) -> Result<String, DataError> {
            let word = self.0.get(index);
            Ok(word.ok_or_else(|| out_of_range(self, index))?.to_string())
        }

        fn name(&self) -> String {
            "words".into()
        }
    }

    #[test]
    fn samples_of_any_type_are_mixed_and_chosen() {
        let parts: Vec<Box<dyn Source<String>>> = vec![
            Box::new(Words(vec!["a", "b"])),
            Box::new(Subset::new(Words(vec!["c", "d"]), vec![1]).unwrap()),
        ];
        let mixture: Arc<dyn Source<String>> = Arc::new(Mixture::new(parts));
        let all: Vec<_> = (0..mixture.len())
            .map(|i| mixture.get(i).unwrap())
            .collect();
        assert_eq!(all, ["a", "b", "d"]);
        assert_eq!(mixture.name(), "words::1 samples of words");
        let reports: Vec<_> = mixture.reports().iter().map(|r| r.to_string()).collect();
        let expected = [
            "words: 2 samples",
            "words: 2 samples",
            "1 samples of words: 1 samples",
        ];
        assert_eq!(reports, expected);
        assert!(mixture.get(3).is_err());
    }

    #[test]
    fn a_subset_follows_its_indices() {
        let subset = Subset::new(Numbers("a", 4), vec![3, 1, 1]).unwrap();
        assert_eq!(keys(&subset), ["a3", "a1", "a1"]);
        assert!(subset.get(3).is_err());
        assert!(Subset::new(Numbers("a", 4), vec![4]).is_err());
        assert_eq!(keys(&Subset::limit(Numbers("a", 4), 2)), ["a0", "a1"]);
        assert_eq!(Subset::limit(Numbers("a", 4), 9).len(), 4);
    }
}
