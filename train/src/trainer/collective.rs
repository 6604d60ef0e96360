//! What replicas of a model tell each other.
//!
//! The engine cuts the graph at the embeddings, so no operation here needs a gradient: embeddings are
//! gathered as plain values, every replica computes the loss of the whole batch, keeps the gradient of its
//! own rows, and the parameter gradients of the towers are summed.

use crate::error::{Result, TrainError};
use burn::prelude::*;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Communication among `world` replicas, each with its own rank. All replicas must make the same calls in
/// the same order; where one may leave, it says so in [`agree`](Self::agree) first.
pub trait Collective<B: Backend> {
    /// Index of this replica.
    fn rank(&self) -> usize;

    /// Number of replicas.
    fn world(&self) -> usize;

    /// The rows of all replicas in the order of their ranks.
    ///
    /// # Shapes
    ///
    /// - rows: `[n, dim]`, the same on every replica
    /// - output: `[world * n, dim]`
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn all_gather(&self, rows: Tensor<B, 2>) -> Result<Tensor<B, 2>>;

    /// The sums over all replicas, of a whole list at once.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn all_reduce(&self, values: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>>;

    /// What any replica has raised.
    ///
    /// # Errors
    ///
    /// When another replica is gone.
    fn agree(&self, mine: Flags) -> Result<Flags>;
}

/// Reasons to leave the common path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Someone asked the run to stop.
    pub stop: bool,
    /// This replica cannot go on.
    pub failed: bool,
}

impl Flags {
    fn or(self, other: Self) -> Self {
        Self {
            stop: self.stop || other.stop,
            failed: self.failed || other.failed,
        }
    }
}

/// A replica on its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Single;

impl<B: Backend> Collective<B> for Single {
    fn rank(&self) -> usize {
        0
    }
    fn world(&self) -> usize {
        1
    }
    fn all_gather(&self, rows: Tensor<B, 2>) -> Result<Tensor<B, 2>> {
        Ok(rows)
    }
    fn all_reduce(&self, values: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>> {
        Ok(values)
    }
    fn agree(&self, mine: Flags) -> Result<Flags> {
        Ok(mine)
    }
}

/// Replicas on threads of one process, which meet in host memory. Sums are taken in the order of the
/// ranks, so results do not depend on timing. A replica that is dropped, such as by a panic, ends the waiting of the
/// others with an error.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct Meeting {
    world: usize,
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
struct Letter {
    tensors: Vec<TensorData>,
    flags: Flags,
}

impl Threads {
    /// One handle per replica.
    pub fn group(world: usize) -> Vec<Self> {
        let table = Table {
            slots: vec![None; world],
            ..Table::default()
        };
        let meeting = Arc::new(Meeting {
            world,
            table: Mutex::new(table),
            changed: Condvar::new(),
        });
        (0..world)
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
                return Err(TrainError::Replica { rank });
            }
            let waited = self.meeting.changed.wait(table);
            table = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Puts one letter down and takes everybody's.
    fn exchange(&self, tensors: Vec<TensorData>, flags: Flags) -> Result<Vec<Letter>> {
        let world = self.meeting.world;
        let mut table = self.wait(self.table(), |table| table.takers == 0)?;
        let round = table.round;
        table.slots[self.rank] = Some(Letter { tensors, flags });
        if table.slots.iter().all(Option::is_some) {
            table.complete = table.slots.iter_mut().filter_map(Option::take).collect();
            table.round += 1;
            table.takers = world;
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
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.table().gone.get_or_insert(self.rank);
        self.meeting.changed.notify_all();
    }
}

impl<B: Backend> Collective<B> for Threads {
    fn rank(&self) -> usize {
        self.rank
    }
    fn world(&self) -> usize {
        self.meeting.world
    }
    fn all_gather(&self, rows: Tensor<B, 2>) -> Result<Tensor<B, 2>> {
        let (device, dtype) = (rows.device(), rows.dtype());
        let all = self.exchange(vec![rows.into_data()], Flags::default())?;
        let parts = all.into_iter().flat_map(|letter| letter.tensors);
        let parts = parts.map(|data| Tensor::from_data(data, (&device, dtype)));
        Ok(Tensor::cat(parts.collect(), 0))
    }
    fn all_reduce(&self, values: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>> {
        let places: Vec<_> = values.iter().map(|v| (v.device(), v.dtype())).collect();
        let mine = values.into_iter().map(Tensor::into_data).collect();
        let all = self.exchange(mine, Flags::default())?;
        let sum = |(index, (device, dtype)): (usize, (B::Device, _))| {
            let parts = all.iter().map(|letter| letter.tensors[index].clone());
            let parts = parts.map(|data| Tensor::<B, 1>::from_data(data, (&device, dtype)));
            parts
                .reduce(|sum, next| sum + next)
                .expect("a replica always meets itself")
        };
        Ok(places.into_iter().enumerate().map(sum).collect())
    }
    fn agree(&self, mine: Flags) -> Result<Flags> {
        let all = self.exchange(Vec::new(), mine)?;
        Ok(all
            .into_iter()
            .map(|letter| letter.flags)
            .fold(mine, Flags::or))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    #[test]
    fn three_threads_gather_in_rank_order_sum_and_agree() {
        let work = |replica: Threads| {
            let device = Default::default();
            let rank = Collective::<Flex>::rank(&replica);
            let value = rank as f32;
            let rows = Tensor::<Flex, 2>::from_data([[value, 1.0]], &device);
            let rows = replica.all_gather(rows).unwrap();
            let values = vec![
                Tensor::<Flex, 1>::from_data([value, 10.0], &device),
                Tensor::<Flex, 1>::from_data([1.0], &device),
            ];
            let sums = replica.all_reduce(values).unwrap();
            let mine = Flags {
                stop: rank == 1,
                failed: false,
            };
            let agreed = Collective::<Flex>::agree(&replica, mine).unwrap();
            let host = |t: Tensor<Flex, 1>| t.into_data().to_vec::<f32>().unwrap();
            let sums: Vec<_> = sums.into_iter().map(host).collect();
            (rows.into_data().to_vec::<f32>().unwrap(), sums, agreed)
        };
        std::thread::scope(|scope| {
            let replicas = Threads::group(3).into_iter();
            let threads: Vec<_> = replicas.map(|r| scope.spawn(move || work(r))).collect();
            for thread in threads {
                let (rows, sums, agreed) = thread.join().unwrap();
                assert_eq!(rows, [0.0, 1.0, 1.0, 1.0, 2.0, 1.0]);
                assert_eq!(sums, [vec![3.0, 30.0], vec![3.0]]);
                assert!(agreed.stop && !agreed.failed);
            }
        });
    }

    #[test]
    fn a_replica_that_is_gone_ends_the_waiting_of_the_others() {
        let mut replicas = Threads::group(2);
        let other = replicas.pop().unwrap();
        let waiting = replicas.pop().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || Collective::<Flex>::agree(&waiting, Flags::default()));
            drop(other);
            let message = waits.join().unwrap().unwrap_err().to_string();
            assert!(message.contains("replica 1"), "{message}");
        });
    }
}
