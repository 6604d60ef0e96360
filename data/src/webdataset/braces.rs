//! Shard patterns: `cc3m-{00000..00331}.tar`, `{a,b}/{0..9}.tar`, several joined by `::`.
//!
//! The rules are those of bash and of Python's `braceexpand`, which webdataset uses.

use std::path::{Path, PathBuf};

use crate::error::DataError;

/// More names than this are taken for a mistake; the largest data sets have some million shards.
const MAX_NAMES: usize = 4_000_000;

/// So are names that have more bytes than this together.
const MAX_BYTES: usize = 1 << 28;

/// Expands a pattern to the names it stands for, in order.
///
/// `{1..3}` counts (down as well, with a step as in `{0..10..5}`, with letters as in `{a..c}`; as many digits as the
/// wider bound if one starts with a zero), `{a,b}` lists, braces nest, `\{` is a plain brace, and a
/// pair with neither a comma nor a range stands for itself.
pub fn expand(pattern: &str) -> Result<Vec<String>, DataError> {
    let fail = |what: String| DataError::Pattern {
        pattern: pattern.to_string(),
        what,
    };
    let mut names = Vec::new();
    for part in pattern.split("::").map(str::trim) {
        if part.is_empty() {
            return Err(fail("an empty name; remove the stray `::`".into()));
        }
        let mut parser = Parser { rest: part };
        let mut expanded = parser.sequence(0).map_err(fail)?;
        names.append(&mut expanded);
        if names.len() > MAX_NAMES {
            return Err(fail(too_many()));
        }
    }
    Ok(names)
}

/// The local files of a pattern, in order; relative names start from `root` if there is one.
///
/// # Errors
///
/// Fails if the pattern has no meaning or names a place that is no local file.
pub(crate) fn local_files(pattern: &str, root: Option<&Path>) -> Result<Vec<PathBuf>, DataError> {
    let names = expand(pattern)?;
    if let Some(remote) = names
        .iter()
        .find(|name| name.contains("://") || name.starts_with("pipe:"))
    {
        let what = format!("`{remote}` is not a local file; download the shards first");
        return Err(DataError::Pattern {
            pattern: pattern.to_string(),
            what,
        });
    }
    let start = root.unwrap_or(Path::new(""));
    Ok(names.into_iter().map(|name| start.join(name)).collect())
}

fn check(names: usize, bytes: usize) -> Result<(), String> {
    match names > MAX_NAMES || bytes > MAX_BYTES {
        true => Err(too_many()),
        false => Ok(()),
    }
}

fn too_many() -> String {
    format!(
        "stands for more than {MAX_NAMES} names, or for names that are too long; check the range"
    )
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    /// Everything up to the end, or at depth above 0 up to the `,` or `}` that ends this
    /// alternative.
    fn sequence(&mut self, depth: usize) -> Result<Vec<String>, String> {
        let mut names = vec![String::new()];
        let mut pushed = 0usize;
        loop {
            pushed = pushed.saturating_add(names.len());
            check(0, pushed)?;
            match self.rest.chars().next() {
                None => return Ok(names),
                Some(',' | '}') if depth > 0 => return Ok(names),
                Some('}') => {
                    return Err("a `}` without its `{`; write `\\}` for a plain brace".into());
                }
                Some('{') => {
                    self.next();
                    names = product(names, self.group(depth + 1)?)?;
                }
                Some('\\') => {
                    self.next();
                    let escaped = self.next().unwrap_or('\\');
                    names.iter_mut().for_each(|name| name.push(escaped));
                }
                Some(plain) => {
                    self.next();
                    names.iter_mut().for_each(|name| name.push(plain));
                }
            }
        }
    }

    /// What stands between a `{` that was just read and its `}`.
    fn group(&mut self, depth: usize) -> Result<Vec<String>, String> {
        if depth > 64 {
            return Err("braces are nested too deeply".into());
        }
        if let Some(end) = self.rest.find(['{', '}', ',', '\\'])
            && self.rest[end..].starts_with('}')
            && let Some(names) = range(&self.rest[..end])?
        {
            self.rest = &self.rest[end + 1..];
            return Ok(names);
        }
        let mut names = Vec::new();
        let mut alternatives = 0;
        loop {
            names.append(&mut self.sequence(depth)?);
            check(names.len(), 0)?;
            alternatives += 1;
            match self.next() {
                Some(',') => continue,
                Some(_) if alternatives > 1 => return Ok(names),
                Some(_) => return Ok(names.iter().map(|name| format!("{{{name}}}")).collect()),
                None => return Err("a `{` without its `}`; write `\\{` for a plain brace".into()),
            }
        }
    }
}

fn product(heads: Vec<String>, tails: Vec<String>) -> Result<Vec<String>, String> {
    let bytes = |names: &[String]| names.iter().map(String::len).sum::<usize>();
    let (in_heads, in_tails) = (bytes(&heads), bytes(&tails));
    let count = heads.len().saturating_mul(tails.len());
    let (in_heads, in_tails) = (
        in_heads.saturating_mul(tails.len()),
        in_tails.saturating_mul(heads.len()),
    );
    check(count, in_heads.saturating_add(in_tails))?;
    let mut names = Vec::with_capacity(count);
    for head in &heads {
        names.extend(tails.iter().map(|tail| format!("{head}{tail}")));
    }
    Ok(names)
}

/// `1..3`, `a..c`, `0..10..5`; `None` if the text is no range.
fn range(text: &str) -> Result<Option<Vec<String>>, String> {
    let bounds: Vec<&str> = text.split("..").collect();
    let (from, to, step) = match bounds[..] {
        [from, to] => (from, to, "1"),
        [from, to, step] => (from, to, step),
        _ => return Ok(None),
    };
    let Ok(step) = step.parse::<i64>() else {
        return Ok(None);
    };
    let step = step.unsigned_abs().max(1);
    if let (Ok(first), Ok(last)) = (from.parse::<i64>(), to.parse::<i64>()) {
        let padded = |bound: &str| {
            bound.trim_start_matches('-').len() > 1
                && bound.trim_start_matches('-').starts_with('0')
        };
        let width = if padded(from) || padded(to) {
            from.len().max(to.len())
        } else {
            0
        };
        let numbers = count(first, last, step)?;
        check(0, numbers.len().saturating_mul(width))?;
        return Ok(Some(numbers.map(|n| format!("{n:0width$}")).collect()));
    }
    let letter = |bound: &str| {
        (bound.len() == 1)
            .then(|| bound.chars().next())
            .flatten()
            .filter(char::is_ascii_alphabetic)
    };
    match (letter(from), letter(to)) {
        (Some(first), Some(last)) => {
            let names = count(first as i64, last as i64, step)?;
            Ok(Some(
                names
                    .filter_map(|n| char::from_u32(n as u32))
                    .map(String::from)
                    .collect(),
            ))
        }
        _ => Ok(None),
    }
}

fn count(first: i64, last: i64, step: u64) -> Result<impl ExactSizeIterator<Item = i64>, String> {
    let steps = first.abs_diff(last) / step;
    if steps >= MAX_NAMES as u64 {
        return Err(too_many());
    }
    // From one end of all numbers to the other a step is not a number of its kind, but every place is.
    let place = move |n: u32| match last < first {
        true => first.wrapping_sub_unsigned(u64::from(n) * step),
        false => first.wrapping_add_unsigned(u64::from(n) * step),
    };
    Ok((0..steps as u32 + 1).map(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(pattern: &str) -> Vec<String> {
        expand(pattern).unwrap()
    }

    #[test]
    fn ranges_count_with_the_digits_of_their_bounds() {
        assert_eq!(
            names("s-{00008..00011}.tar"),
            ["s-00008.tar", "s-00009.tar", "s-00010.tar", "s-00011.tar"]
        );
        assert_eq!(names("{9..11}"), ["9", "10", "11"]);
        assert_eq!(names("{3..1}"), ["3", "2", "1"]);
        assert_eq!(names("{0..10..5}"), ["0", "5", "10"]);
        assert_eq!(names("{a..c}"), ["a", "b", "c"]);
        assert_eq!(names("{-1..1}"), ["-1", "0", "1"]);
        assert_eq!(names("{0..2}"), ["0", "1", "2"]);
    }

    #[test]
    fn a_range_may_lead_from_one_end_of_all_numbers_to_the_other() {
        let (low, high) = (i64::MIN, i64::MAX);
        assert_eq!(
            names(&format!("{{{low}..{high}..{high}}}")),
            [low, -1, high - 1].map(|n| n.to_string())
        );
        assert_eq!(
            names(&format!("{{{high}..{low}..{low}}}")),
            [high, -1].map(|n| n.to_string())
        );
    }

    #[test]
    fn names_that_would_fill_the_memory_are_refused() {
        for pattern in [
            format!("{{{}}}", ["{0..9999999}"; 3].join(",")),
            format!("{{{:02000}..9999999}}", 1),
            format!("{{0..9999999}}{}", "x".repeat(100)),
            format!("{{0..3999999}}{}", "x".repeat(100)),
        ] {
            let message = expand(&pattern).unwrap_err().to_string();
            assert!(message.contains("more than"), "{message:.300}");
        }
    }

    #[test]
    fn lists_nest_and_multiply() {
        assert_eq!(names("{a,b}{1,2}"), ["a1", "a2", "b1", "b2"]);
        assert_eq!(names("x{a,b{1..2},}y"), ["xay", "xb1y", "xb2y", "xy"]);
        assert_eq!(
            names("a.tar::b-{0..1}.tar"),
            ["a.tar", "b-0.tar", "b-1.tar"]
        );
    }

    #[test]
    fn braces_without_comma_or_range_stand_for_themselves() {
        assert_eq!(names("{x}.tar"), ["{x}.tar"]);
        assert_eq!(names("{}"), ["{}"]);
        assert_eq!(names("{1..}"), ["{1..}"]);
        assert_eq!(names(r"\{1..2\}"), ["{1..2}"]);
        assert_eq!(names("a,b"), ["a,b"]);
    }

    #[test]
    fn broken_patterns_are_refused_with_their_text() {
        for pattern in [
            "a{b",
            "a}b",
            "{a,{b,c}",
            "a.tar::",
            "",
            "{0..99999999999}",
            "{0..9999}{0..9999}",
        ] {
            let error = expand(pattern).unwrap_err().to_string();
            assert!(error.contains(pattern), "{error}");
        }
    }

    /// A pattern together with what it must expand to, built independently of the parser.
    fn pattern() -> impl Strategy<Value = (String, Vec<String>)> {
        let plain = "[a-z/_.]{1,6}"
            .prop_filter("`..` is a range", |s| !s.contains(".."))
            .prop_map(|s| (s.clone(), vec![s]));
        let range = (0u32..200, 0u32..200, 1usize..6).prop_map(|(a, b, width)| {
            let (from, to) = (format!("{a:0width$}"), format!("{b:0width$}"));
            let padded = [&from, &to]
                .iter()
                .any(|s| s.len() > 1 && s.starts_with('0'));
            let width = if padded { from.len().max(to.len()) } else { 0 };
            let name = |n: u32| format!("{n:0width$}");
            let all = if a <= b {
                (a..=b).map(name).collect()
            } else {
                (b..=a).rev().map(name).collect()
            };
            (format!("{{{from}..{to}}}"), all)
        });
        prop_oneof![plain, range]
            .prop_recursive(3, 24, 4, |inner| {
                prop_oneof![
                    prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| {
                        let texts: Vec<_> = parts.iter().map(|(text, _)| text.as_str()).collect();
                        let all = parts.iter().flat_map(|(_, names)| names.clone()).collect();
                        (format!("{{{}}}", texts.join(",")), all)
                    }),
                    (inner.clone(), inner).prop_map(|((a, left), (b, right))| {
                        let all = left
                            .iter()
                            .flat_map(|l| right.iter().map(move |r| format!("{l}{r}")))
                            .collect();
                        (a + &b, all)
                    }),
                ]
            })
            .prop_filter("small", |(_, names)| names.len() < 20_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn patterns_expand_to_what_they_were_built_from((text, names) in pattern()) {
            prop_assert_eq!(expand(&text).unwrap(), names);
        }

        #[test]
        fn no_pattern_makes_the_parser_panic(text in "[a-c0-9{}.,:\\\\-]{0,30}") {
            let _ = expand(&text);
        }
    }
}
