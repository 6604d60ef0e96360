//! The language.

use crate::error::{Error, Result};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// Replicas that meet. All make the same calls in the same order; where one may leave, it says so in
/// [`agree`](Self::agree) first.
///
/// Every call fails when another replica is gone.
pub trait World: Debug + Send + Sync {
    /// Index of this replica.
    fn rank(&self) -> usize;

    /// Number of replicas.
    fn size(&self) -> usize;

    /// The bytes of all replicas in the order of their ranks; lengths may differ.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Overwrites the values of all replicas with those of one, `from`; all expect equally many.
    ///
    /// # Errors
    ///
    /// When another replica is gone, or expects another number.
    fn spread(&self, from: usize, values: &mut [f32]) -> Result<()>;

    /// The rows of all replicas, one after the other: equally many of each.
    ///
    /// # Errors
    ///
    /// When another replica is gone, or gives another number.
    fn all_gather(&self, mine: &[f32]) -> Result<Vec<f32>>;

    /// Sums over all replicas, in place: equally many of each.
    ///
    /// # Errors
    ///
    /// When another replica is gone, or gives another number.
    fn all_reduce(&self, values: &mut [f32]) -> Result<()>;

    /// Sums over all replicas, of which each takes its own part: the values are cut into as many equal parts as there are
    /// replicas.
    ///
    /// # Errors
    ///
    /// When another replica is gone, or gives another number; when the values cannot be cut so.
    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>> {
        let mut values = values.to_vec();
        self.all_reduce(&mut values)?;
        let part = part_of(values.len(), self.size())?;
        Ok(values[self.rank() * part..][..part].to_vec())
    }

    /// What any replica has raised.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn agree(&self, mine: Flags) -> Result<Flags> {
        if self.size() == 1 {
            return Ok(mine);
        }
        let all = self.gather(&[mine.bits()])?;
        let flags = all.iter().filter_map(|byte| byte.first());
        Ok(flags.fold(mine, |flags, bits| flags.or(Flags::of_bits(*bits))))
    }

    /// Whether all can go on: the rank and the words of the first replica that cannot. Each gives its words, or none if it
    /// can.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn hear(&self, mine: Option<&str>) -> Result<Option<(usize, String)>> {
        if !self.agree(Flags::failed(mine.is_some()))?.failed {
            return Ok(None);
        }
        // A first byte tells who has something to say, be it nothing.
        let said = mine.map(|words| format!("!{words}")).unwrap_or_default();
        let all = self.gather(said.as_bytes())?;
        let first = all.iter().position(|said| !said.is_empty());
        Ok(first.map(|rank| {
            let words = String::from_utf8_lossy(&all[rank][1..]).into_owned();
            (rank, words)
        }))
    }

    /// How long this replica has been in these calls so far, waiting for others included; zero where nobody looks.
    fn spent(&self) -> Duration {
        Duration::ZERO
    }

    /// The bytes of the first replica.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn broadcast(&self, of_first: &[u8]) -> Result<Vec<u8>> {
        let mine = if self.rank() == 0 { of_first } else { &[] };
        Ok(self.gather(mine)?.swap_remove(0))
    }
}

/// Length of one of `size` equal parts.
///
/// # Errors
///
/// When `length` is no multiple of `size`.
pub fn part_of(length: usize, size: usize) -> Result<usize> {
    match length.is_multiple_of(size) {
        true => Ok(length / size),
        false => Err(Error::Transport(format!(
            "{length} values cannot be cut into {size} equal parts"
        ))),
    }
}

/// Reasons to leave the common path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Someone asked the run to stop.
    pub stop: bool,
    /// This replica cannot go on.
    pub failed: bool,
    /// A loss or a gradient is no finite number.
    pub not_finite: bool,
}

impl Flags {
    /// Nothing but that this replica cannot go on, if so.
    pub fn failed(failed: bool) -> Self {
        Self {
            failed,
            ..Self::default()
        }
    }

    /// Nothing but that a number is not finite, if so.
    pub fn not_finite(not_finite: bool) -> Self {
        Self {
            not_finite,
            ..Self::default()
        }
    }

    fn or(self, other: Self) -> Self {
        Self::of_bits(self.bits() | other.bits())
    }

    fn bits(self) -> u8 {
        u8::from(self.stop) | u8::from(self.failed) << 1 | u8::from(self.not_finite) << 2
    }

    fn of_bits(bits: u8) -> Self {
        Self {
            stop: bits & 1 != 0,
            failed: bits & 2 != 0,
            not_finite: bits & 4 != 0,
        }
    }
}

/// A replica on its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl World for Single {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        1
    }
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![mine.to_vec()])
    }
    fn all_gather(&self, mine: &[f32]) -> Result<Vec<f32>> {
        Ok(mine.to_vec())
    }
    fn all_reduce(&self, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
    fn spread(&self, _: usize, _: &mut [f32]) -> Result<()> {
        Ok(())
    }
}

impl<W: World + ?Sized> World for Arc<W> {
    fn rank(&self) -> usize {
        (**self).rank()
    }
    fn size(&self) -> usize {
        (**self).size()
    }
    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        (**self).gather(mine)
    }
    fn spread(&self, from: usize, values: &mut [f32]) -> Result<()> {
        (**self).spread(from, values)
    }
    fn all_gather(&self, mine: &[f32]) -> Result<Vec<f32>> {
        (**self).all_gather(mine)
    }
    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        (**self).all_reduce(values)
    }
    fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>> {
        (**self).reduce_scatter(values)
    }
    fn agree(&self, mine: Flags) -> Result<Flags> {
        (**self).agree(mine)
    }
    fn hear(&self, mine: Option<&str>) -> Result<Option<(usize, String)>> {
        (**self).hear(mine)
    }
    fn spent(&self) -> Duration {
        (**self).spent()
    }
    fn broadcast(&self, of_first: &[u8]) -> Result<Vec<u8>> {
        (**self).broadcast(of_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_hears_itself() {
        let stop = Flags {
            stop: true,
            ..Flags::default()
        };
        assert_eq!(Single.agree(stop), Ok(stop));
        assert_eq!(Single.broadcast(b"path").unwrap(), b"path");
        assert_eq!(Single.reduce_scatter(&[1.0, 2.0]).unwrap(), [1.0, 2.0]);
    }
}
