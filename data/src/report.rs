//! What a source holds, and what of it was left out and why: the first lines of a run's log.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sample::{CaptionKind, Captions};

/// So many samples at most are looked at to count captions where the source does not read them all.
const LOOKED_AT: usize = 256;

/// What one source holds. Its `Display` is one line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceReport {
    /// Name of the source.
    pub name: String,
    /// Samples that are used.
    pub samples: usize,
    /// Captions by kind, where the source has captions.
    pub captions: Option<CaptionCounts>,
    /// What was left out.
    pub dropped: Vec<Dropped>,
}

/// How many captions with text some samples have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptionCounts {
    /// Samples that were looked at, spread evenly over the source.
    pub samples: usize,
    /// Web captions.
    pub web: usize,
    /// Rewrites.
    pub rewrites: usize,
    /// Synthetic captions.
    pub synthetic: usize,
    /// Samples among them without any caption.
    pub without: usize,
}

/// Things that were left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// Why.
    pub reason: String,
    /// The first of them.
    pub first: String,
}

impl CaptionCounts {
    /// The count of one kind.
    pub(crate) fn of_kind(&mut self, kind: CaptionKind) -> &mut usize {
        match kind {
            CaptionKind::Web => &mut self.web,
            CaptionKind::Rewrite => &mut self.rewrites,
            CaptionKind::Synthetic => &mut self.synthetic,
        }
    }

    /// Counts the captions of some samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = Captions>) -> Self {
        let mut counts = Self::default();
        for captions in samples {
            counts.samples += 1;
            for kind in CaptionKind::ALL {
                *counts.of_kind(kind) += captions.filled(kind).count();
            }
            counts.without += usize::from(captions.is_empty());
        }
        counts
    }
}

/// The samples to look at in a source of `len`: all of a small one, else some spread evenly.
pub(crate) fn spread(len: usize) -> impl Iterator<Item = usize> {
    let looked_at = len.min(LOOKED_AT);
    (0..looked_at).map(move |i| i * len / looked_at)
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} samples", self.name, self.samples)?;
        if let Some(counts) = &self.captions {
            let (all, some) = (self.samples, counts.samples);
            let which = if some < all {
                format!("{some} of them")
            } else {
                "them".into()
            };
            write!(
                f,
                "; in {which} {} web captions, {} rewrites, {} synthetic captions",
                counts.web, counts.rewrites, counts.synthetic
            )?;
            if counts.without > 0 {
                write!(f, ", {} without any", counts.without)?;
            }
        }
        for (number, dropped) in self.dropped.iter().enumerate() {
            let before = if number == 0 { "; left out: " } else { ", " };
            write!(f, "{before}{dropped}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            count,
            reason,
            first,
        } = self;
        write!(f, "{count} × {reason} (first: {first})")
    }
}

/// Counts what is left out, by reason. Reasons that differ in numbers only are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    groups: Vec<(String, Dropped)>,
}

/// A damaged file must not bring thousands of reasons.
const REASONS: usize = 20;

impl Tally {
    /// Counts one thing; `first` names it, should it be the first for this reason.
    pub fn add(&mut self, reason: &str, first: impl FnOnce() -> String) {
        self.add_many(1, reason, first);
    }

    /// Counts several things at once.
    pub fn add_many(&mut self, count: usize, reason: &str, first: impl FnOnce() -> String) {
        let known = |key: &str| self.groups.iter().position(|(known, _)| known == key);
        let key = without_numbers(reason);
        let place = known(&key);
        let (key, reason) = match place {
            None if self.groups.len() >= REASONS => ("other".into(), "other reasons"),
            _ => (key, reason),
        };
        match place.or_else(|| known(&key)) {
            Some(place) => self.groups[place].1.count += count,
            None => self.groups.push((
                key,
                Dropped {
                    count,
                    reason: reason.into(),
                    first: first(),
                },
            )),
        }
    }

    /// Adds what another tally counted.
    pub fn append(&mut self, other: Self) {
        for (_, dropped) in other.groups {
            self.add_many(dropped.count, &dropped.reason, || dropped.first.clone());
        }
    }

    /// True if nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What was counted, in the order in which the reasons were met.
    pub fn dropped(&self) -> Vec<Dropped> {
        self.groups.iter().map(|(_, group)| group.clone()).collect()
    }
}

fn without_numbers(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '0'..='9' if plain.ends_with('#') => {}
            '0'..='9' => plain.push('#'),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_that_says_what_is_there_and_what_is_not() {
        let mut tally = Tally::default();
        tally.add("1 columns instead of at least 2", || "line 3".into());
        tally.add("the caption is empty", || "line 4".into());
        tally.add("0 columns instead of at least 2", || "line 9".into());
        let mut captions = Captions::default();
        captions.push(CaptionKind::Web, "a cat");
        captions.push(CaptionKind::Rewrite, "");
        captions.push(CaptionKind::Rewrite, "one cat");
        let report = SourceReport {
            name: "a.csv".into(),
            samples: 3,
            captions: Some(CaptionCounts::of([captions, Captions::default()])),
            dropped: tally.dropped(),
        };
        assert_eq!(
            report.to_string(),
            "a.csv: 3 samples; in 2 of them 1 web captions, 1 rewrites, 0 synthetic captions, 1 without any; left \
             out: 2 × 1 columns instead of at least 2 (first: line 3), 1 × the caption is empty (first: line 4)"
        );
    }

    #[test]
    fn reasons_without_end_become_others_and_none_is_lost() {
        let mut tally = Tally::default();
        for letter in ('a'..='z').cycle().take(104) {
            tally.add(&letter.to_string(), || letter.to_string());
        }
        let dropped = tally.dropped();
        assert_eq!(dropped.len(), REASONS + 1);
        assert_eq!(dropped.iter().map(|d| d.count).sum::<usize>(), 104);
        assert_eq!((dropped[20].count, &*dropped[20].first), (24, "u"));
    }

    #[test]
    fn samples_to_look_at_are_spread_and_never_beyond_the_end() {
        assert_eq!(spread(3).collect::<Vec<_>>(), [0, 1, 2]);
        let some: Vec<_> = spread(1000).collect();
        assert_eq!((some.len(), some[1], some[255]), (256, 3, 996));
        assert_eq!(spread(0).count(), 0);
    }
}
