//! Shares of one piece of work, for processes that know nothing of each other: which part of a list is whose, and what the
//! files of the shares are called.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The share number `index`, counted from 0, of `of` shares; `i/n` on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard {
    index: usize,
    of: usize,
}

/// Between the name of a whole file and the number of a share of it.
const MARK: &str = ".shard-";

/// Missing shares that are named in an error.
const NAMED: usize = 20;

impl Shard {
    /// The work in one piece.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Share `index` of `of`, as ranks of MPI and tasks of a job array count them.
    ///
    /// # Errors
    ///
    /// If there is no such share.
    pub fn new(index: usize, of: usize) -> Result<Self, String> {
        match of {
            0 => Err(format!(
                "`{index}/0`: there must be at least one share, which is 0/1"
            )),
            _ if index >= of => Err(format!(
                "`{index}/{of}`: shares are counted from 0, so the last of {of} is {}/{of}",
                of - 1
            )),
            _ => Ok(Self { index, of }),
        }
    }

    /// Its number, from 0.
    pub fn index(self) -> usize {
        self.index
    }

    /// How many shares there are.
    pub fn of(self) -> usize {
        self.of
    }

    /// Its part of `len` things in a row. The ranges of all shares follow one another without gap or double, and their
    /// lengths differ by one at most.
    pub fn range(self, len: usize) -> Range<usize> {
        // 128 bits: the product may be beyond 64.
        let start = |index: usize| (len as u128 * index as u128 / self.of as u128) as usize;
        start(self.index)..start(self.index + 1)
    }

    /// Its part of `len` things that are worked on `batch` at a time: whole batches of those that one process alone would
    /// make, so that what a thing becomes does not depend on the number of shares, even where it depends on its neighbours.
    ///
    /// # Panics
    ///
    /// Panics if `batch` is 0.
    pub fn batches(self, len: usize, batch: usize) -> Range<usize> {
        let batches = self.range(len.div_ceil(batch));
        let thing = |number: usize| number.saturating_mul(batch).min(len);
        thing(batches.start)..thing(batches.end)
    }

    /// Whether a thing is among every `of`-th, beginning with number `index`: for things of unequal cost.
    pub fn takes(self, place: usize) -> bool {
        place % self.of == self.index
    }

    /// Where this share of a file is written: `e.shard-2-of-4.safetensors` for `e.safetensors`, beside it. The number has as
    /// many digits as the count, so that names sort as the shares do.
    pub fn path(self, whole: &Path) -> PathBuf {
        let (stem, end) = stem_and_end(whole);
        let digits = self.of.to_string().len();
        let Self { index, of } = self;
        whole.with_file_name(format!("{stem}{MARK}{index:0digits$}-of-{of}{end}"))
    }

    /// The shares of a file that lie beside it, by their names and in the order of these.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn files(whole: &Path) -> std::io::Result<Vec<PathBuf>> {
        let folder = whole.parent().filter(|path| !path.as_os_str().is_empty());
        let (stem, end) = stem_and_end(whole);
        let is_share = |name: &str| {
            let numbers = name.strip_prefix(&format!("{stem}{MARK}"))?;
            let (index, of) = numbers.strip_suffix(&end)?.split_once("-of-")?;
            let is_number = |text: &str| text.parse::<usize>().is_ok();
            (is_number(index) && is_number(of)).then_some(())
        };
        let mut files = Vec::new();
        for entry in folder.unwrap_or(Path::new(".")).read_dir()? {
            let name = entry?.file_name();
            if name.to_str().and_then(is_share).is_some() {
                files.push(whole.with_file_name(name));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Sorts what holds the shares of `whole`, each with the share that it says it is.
    ///
    /// # Errors
    ///
    /// Names shares of another count, doubles, and the shares that are missing.
    pub fn complete<T>(
        whole: &Path,
        mut found: Vec<(Self, PathBuf, T)>,
    ) -> Result<Vec<(PathBuf, T)>, String> {
        found.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let Some((of, first)) = found.first().map(|(shard, path, _)| (shard.of, path)) else {
            let example = Self::WHOLE.path(whole);
            return Err(format!(
                "{}: there are no shares of it, such as {} of `--shard 0/1`",
                whole.display(),
                example.display()
            ));
        };
        if let Some((other, path, _)) = found.iter().find(|(shard, ..)| shard.of != of) {
            return Err(format!(
                "{} is one of {of} shares, {} one of {}: remove those that are not wanted",
                first.display(),
                path.display(),
                other.of
            ));
        }
        if let Some(pair) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!(
                "{} and {} both hold share {}: remove one of them",
                pair[0].1.display(),
                pair[1].1.display(),
                pair[0].0
            ));
        }
        // As found is sorted without doubles: one file may call itself one of 2^64.
        let missing = of - found.len();
        if missing == 0 {
            return Ok(found.into_iter().map(|(_, path, t)| (path, t)).collect());
        }
        let absent = |shard: &Self| {
            found
                .binary_search_by_key(shard, |(there, ..)| *there)
                .is_err()
        };
        let absent = (0..of).map(|index| Self { index, of }).filter(absent);
        let mut named: Vec<String> = absent
            .take(NAMED)
            .map(|shard| format!("{} (--shard {shard})", shard.path(whole).display()))
            .collect();
        if missing > named.len() {
            named.push(format!("{} more", missing - named.len()));
        }
        Err(format!(
            "{missing} of {of} shares are missing: {}",
            named.join(", ")
        ))
    }
}

/// A file name before and from its last dot.
fn stem_and_end(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let end = text(path.extension()).map_or(String::new(), |end| format!(".{end}"));
    (text(path.file_stem()).unwrap_or_default(), end)
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/');
        let number = |text: &str| text.trim().parse::<usize>().ok();
        match numbers.and_then(|(index, of)| Some((number(index)?, number(of)?))) {
            Some((index, of)) => Self::new(index, of),
            None => Err(format!(
                "`{text}` is no share: write i/n, i counted from 0, such as 0/4 for the first of four"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(of: usize) -> impl Iterator<Item = Shard> {
        (0..of).map(move |index| Shard::new(index, of).unwrap())
    }

    #[test]
    fn ranges_follow_one_another_and_are_equally_long() {
        for len in [0, 1, 3, 4, 5, 100, 101, 1000] {
            for of in [1, 2, 3, 4, 7, 150] {
                for batch in [1, 3, 32] {
                    let (mut end, mut lens) = (0, Vec::new());
                    for shard in all(of) {
                        let range = shard.batches(len, batch);
                        assert_eq!(range.start, end, "{shard} of {len} by {batch}");
                        assert!(range.start.is_multiple_of(batch) || range.is_empty());
                        lens.push(range.len().div_ceil(batch));
                        end = range.end;
                    }
                    assert_eq!(end, len);
                    let (least, most) = (lens.iter().min().unwrap(), lens.iter().max().unwrap());
                    assert!(most - least <= 1, "{lens:?}");
                }
                let whole: Vec<_> = all(of).flat_map(|shard| shard.range(len)).collect();
                assert!(whole.into_iter().eq(0..len));
            }
        }
        assert_eq!(
            Shard::new(2, 3).unwrap().range(usize::MAX).end,
            usize::MAX,
            "no overflow"
        );
    }

    #[test]
    fn every_nth_thing_is_taken_once() {
        for place in 0..20 {
            assert_eq!(all(3).filter(|shard| shard.takes(place)).count(), 1);
        }
        assert!(Shard::new(1, 3).unwrap().takes(4));
    }

    #[test]
    fn a_share_is_read_as_it_is_written_and_others_are_explained() {
        let shard: Shard = "2/4".parse().unwrap();
        assert_eq!((shard.index(), shard.of()), (2, 4));
        assert_eq!(shard.to_string(), "2/4");
        for (text, said) in [
            ("4/4", "the last of 4 is 3/4"),
            ("0/0", "at least one share"),
            ("2", "write i/n"),
            ("-1/4", "write i/n"),
            ("a/4", "write i/n"),
            ("1/2/3", "write i/n"),
            ("/", "write i/n"),
        ] {
            let message = text.parse::<Shard>().unwrap_err();
            assert!(
                message.contains(said) && message.contains(text),
                "{message}"
            );
        }
    }

    #[test]
    fn names_sort_as_the_shares_do_and_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("e.v1.safetensors");
        let paths: Vec<_> = all(12).map(|shard| shard.path(&whole)).collect();
        assert!(paths[2].ends_with("e.v1.shard-02-of-12.safetensors"));
        assert!(paths.is_sorted());
        for path in &paths {
            std::fs::write(path, "").unwrap();
        }
        for other in [
            "e.v1.safetensors",
            "e.v1.shard-02-of-12.safetensors.partial",
            "e.v1.shard-two-of-12.safetensors",
            "e.shard-0-of-1.safetensors",
        ] {
            std::fs::write(folder.path().join(other), "").unwrap();
        }
        assert_eq!(Shard::files(&whole).unwrap(), paths);
        let bare = Shard::new(0, 4).unwrap().path(Path::new("rewrites"));
        assert_eq!(bare, Path::new("rewrites.shard-0-of-4"));
        assert!(Shard::files(&folder.path().join("no/such/folder/e")).is_err());
    }

    #[test]
    fn gaps_doubles_and_other_counts_are_named() {
        let whole = Path::new("e.txt");
        let complete = |found: &[&str]| {
            let found = found.iter().map(|text| {
                let (shard, name) = text.split_once(' ').unwrap();
                (shard.parse().unwrap(), PathBuf::from(name), ())
            });
            Shard::complete(whole, found.collect())
        };
        let sorted = complete(&["1/3 b", "0/3 c", "2/3 a"]).unwrap();
        let names: Vec<_> = sorted.iter().map(|(path, ())| path.to_str()).collect();
        assert_eq!(names, [Some("c"), Some("b"), Some("a")]);
        for (found, said) in [
            (&[][..], &["no shares", "e.shard-0-of-1.txt"][..]),
            (
                &["1/3 b"],
                &["2 of 3", "e.shard-0-of-3.txt (--shard 0/3), e.shard-2"],
            ),
            (&["0/2 a", "1/2 b", "1/2 c"], &["b and c", "share 1/2"]),
            (&["0/2 a", "0/1 b"], &["b is one of 1", "a one of 2"]),
        ] {
            let message = complete(found).unwrap_err();
            assert!(said.iter().all(|word| message.contains(word)), "{message}");
        }
        // A share comes from anyone, and may call itself one of any number.
        let message = complete(&[&format!("0/{} a", usize::MAX)]).unwrap_err();
        assert!(
            message.contains("more") && message.len() < 2000,
            "{message}"
        );
    }

    #[test]
    fn the_last_batch_of_all_numbers_does_not_overflow() {
        assert_eq!(Shard::WHOLE.batches(usize::MAX, 2), 0..usize::MAX);
    }
}
