//! Replicas on threads of one process, which meet in host memory.

use crate::error::{Error, Result};
use crate::world::World;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Replicas on threads of one process. Sums are taken in the order of the ranks, so results do not depend on timing. A
/// replica that is dropped, such as by a panic, ends the waiting of the others with an error.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct Meeting {
    size: usize,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    round: u64,
    slots: Vec<Option<Letter>>,
    /// Of the last complete round; there until everybody has taken it.
    complete: Vec<Letter>,
    takers: usize,
    gone: Option<usize>,
}

/// What a replica lays on the table.
#[derive(Clone, Debug)]
enum Letter {
    Bytes(Arc<[u8]>),
    Values(Arc<[f32]>),
}

impl Threads {
    /// One handle per replica.
    pub fn group(size: usize) -> Vec<Self> {
        let table = Table {
            slots: vec![None; size],
            ..Table::default()
        };
        let meeting = Arc::new(Meeting {
            size,
            table: Mutex::new(table),
            changed: Condvar::new(),
        });
        (0..size)
            .map(|rank| Self {
                rank,
                meeting: meeting.clone(),
            })
            .collect()
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        let table = self.meeting.table.lock();
        table.unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `ready`, or until a replica is gone.
    fn wait<'a>(
        &self,
        mut table: MutexGuard<'a, Table>,
        ready: impl Fn(&Table) -> bool,
    ) -> Result<MutexGuard<'a, Table>> {
        loop {
            if ready(&table) {
                return Ok(table);
            }
            if let Some(rank) = table.gone {
                return Err(Error::Gone { rank });
            }
            let waited = self.meeting.changed.wait(table);
            table = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts one letter down and takes everybody's.
    fn exchange(&self, mine: Letter) -> Result<Vec<Letter>> {
        let size = self.meeting.size;
        let mut table = self.wait(self.table(), |table| table.takers == 0)?;
        let round = table.round;
        table.slots[self.rank] = Some(mine);
        if table.slots.iter().all(Option::is_some) {
            table.complete = table.slots.iter_mut().filter_map(Option::take).collect();
            table.round += 1;
            table.takers = size;
            self.meeting.changed.notify_all();
        }
        let mut table = self.wait(table, |table| table.round > round)?;
        let all = table.complete.clone();
        table.takers -= 1;
        if table.takers == 0 {
            self.meeting.changed.notify_all();
        }
        Ok(all)
    }

    /// The values of all, which must be equally many.
    fn values(&self, mine: &[f32]) -> Result<Vec<Arc<[f32]>>> {
        let all = self.exchange(Letter::Values(mine.into()))?;
        let expected = match &all[0] {
            Letter::Values(first) => first.len(),
            Letter::Bytes(_) => return Err(mixed(0)),
        };
        let values = all.into_iter().enumerate().map(|(rank, letter)| {
            let Letter::Values(values) = letter else {
                return Err(mixed(rank));
            };
            match values.len() == expected {
                true => Ok(values),
                false => Err(Error::Uneven {
                    rank,
                    what: "values",
                    found: values.len(),
                    expected,
                }),
            }
        });
        values.collect()
    }
}

fn mixed(rank: usize) -> Error {
    Error::Transport(format!("replica {rank} made another call than this one"))
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.table().gone.get_or_insert(self.rank);
        self.meeting.changed.notify_all();
    }
}

impl World for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.size
    }

    fn gather(&self, mine: &[u8]) -> Result<Vec<Vec<u8>>> {
        let all = self.exchange(Letter::Bytes(mine.into()))?;
        let bytes = all
            .into_iter()
            .enumerate()
            .map(|(rank, letter)| match letter {
                Letter::Bytes(bytes) => Ok(bytes.to_vec()),
                Letter::Values(_) => Err(mixed(rank)),
            });
        bytes.collect()
    }

    fn spread(&self, from: usize, values: &mut [f32]) -> Result<()> {
        values.copy_from_slice(&self.values(values)?[from]);
        Ok(())
    }

    fn all_gather(&self, mine: &[f32]) -> Result<Vec<f32>> {
        Ok(self.values(mine)?.concat())
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        let all = self.values(values)?;
        values.fill(0.0);
        for part in all {
            for (sum, value) in values.iter_mut().zip(&*part) {
                *sum += value;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Flags;

    #[test]
    fn three_threads_gather_in_rank_order_sum_and_agree() {
        let work = |replica: Threads| {
            let value = replica.rank() as f32;
            let rows = replica.all_gather(&[value, 1.0]).unwrap();
            let mut sums = [value, 10.0];
            replica.all_reduce(&mut sums).unwrap();
            let part = replica.reduce_scatter(&[1.0, 2.0, value]).unwrap();
            let mine = Flags {
                stop: replica.rank() == 1,
                ..Flags::default()
            };
            let words = replica.gather(&vec![7; replica.rank()]).unwrap();
            let mut of_last = [value];
            replica.spread(2, &mut of_last).unwrap();
            assert_eq!(of_last, [2.0]);
            let first = replica.broadcast(&[replica.rank() as u8 + 5]).unwrap();
            (rows, sums, part, replica.agree(mine).unwrap(), words, first)
        };
        std::thread::scope(|scope| {
            let replicas = Threads::group(3).into_iter();
            let threads: Vec<_> = replicas.map(|r| scope.spawn(move || work(r))).collect();
            for (rank, thread) in threads.into_iter().enumerate() {
                let (rows, sums, part, agreed, words, first) = thread.join().unwrap();
                assert_eq!(rows, [0.0, 1.0, 1.0, 1.0, 2.0, 1.0]);
                assert_eq!(sums, [3.0, 30.0]);
                assert_eq!(part, [[3.0], [6.0], [3.0]][rank]);
                assert!(agreed.stop && !agreed.failed);
                assert_eq!(words, [vec![], vec![7], vec![7, 7]]);
                assert_eq!(first, [5]);
            }
        });
    }

    #[test]
    fn a_replica_that_is_gone_ends_the_waiting_of_the_others() {
        let mut replicas = Threads::group(2);
        let other = replicas.pop().unwrap();
        let waiting = replicas.pop().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || waiting.agree(Flags::default()));
            drop(other);
            let error = waits.join().unwrap().unwrap_err();
            assert_eq!(error, Error::Gone { rank: 1 });
        });
    }

    #[test]
    fn uneven_values_are_refused_on_both_sides() {
        let group = Threads::group(2).into_iter();
        std::thread::scope(|scope| {
            let threads: Vec<_> = group
                .map(|replica| {
                    scope.spawn(move || {
                        let mine = vec![1.0; 2 + replica.rank()];
                        replica.all_gather(&mine).unwrap_err()
                    })
                })
                .collect();
            for thread in threads {
                assert!(matches!(thread.join().unwrap(), Error::Uneven { .. }));
            }
        });
    }
}
