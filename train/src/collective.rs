//! What replicas of a model tell each other.
//!
//! The engine cuts the graph at the embeddings, so no operation here needs a gradient: embeddings are
//! gathered as plain values, every replica computes the loss of the whole batch, keeps the gradient of its
//! own rows, and the parameter gradients of the towers are summed.

use burn::prelude::*;
use std::sync::{Arc, Barrier, Mutex};

/// Communication among `world` replicas, each with its own rank. All replicas must make the same calls in
/// the same order.
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
    fn all_gather(&self, rows: Tensor<B, 2>) -> Tensor<B, 2>;

    /// The sum over all replicas.
    fn all_reduce(&self, values: Tensor<B, 1>) -> Tensor<B, 1>;
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
    fn all_gather(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        rows
    }
    fn all_reduce(&self, values: Tensor<B, 1>) -> Tensor<B, 1> {
        values
    }
}

/// Replicas on threads of one process, which meet in host memory. Sums are taken in the order of the
/// ranks, so results do not depend on timing.
#[derive(Clone, Debug)]
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
}

#[derive(Debug)]
struct Meeting {
    slots: Mutex<Vec<Option<TensorData>>>,
    barrier: Barrier,
}

impl Threads {
    /// One handle per replica.
    pub fn group(world: usize) -> Vec<Self> {
        let meeting = Meeting {
            slots: Mutex::new(vec![None; world]),
            barrier: Barrier::new(world),
        };
        let meeting = Arc::new(meeting);
        (0..world)
            .map(|rank| Self {
                rank,
                meeting: meeting.clone(),
            })
            .collect()
    }

    /// Puts one value down and takes everybody's.
    fn exchange(&self, mine: TensorData) -> Vec<TensorData> {
        let slots = || {
            self.meeting
                .slots
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        };
        slots()[self.rank] = Some(mine);
        self.meeting.barrier.wait();
        let all = slots().iter().flatten().cloned().collect();
        self.meeting.barrier.wait(); // nobody overwrites a slot before everybody has read it
        all
    }
}

impl<B: Backend> Collective<B> for Threads {
    fn rank(&self) -> usize {
        self.rank
    }
    fn world(&self) -> usize {
        self.meeting.slots.lock().map_or(0, |slots| slots.len())
    }
    fn all_gather(&self, rows: Tensor<B, 2>) -> Tensor<B, 2> {
        let (device, dtype) = (rows.device(), rows.dtype());
        let all = self.exchange(rows.into_data());
        Tensor::cat(
            all.into_iter()
                .map(|d| Tensor::from_data(d, (&device, dtype)))
                .collect(),
            0,
        )
    }
    fn all_reduce(&self, values: Tensor<B, 1>) -> Tensor<B, 1> {
        let (device, dtype) = (values.device(), values.dtype());
        let all = self.exchange(values.into_data());
        let mut tensors = all
            .into_iter()
            .map(|d| Tensor::from_data(d, (&device, dtype)));
        let first = tensors.next().expect("a replica always meets itself");
        tensors.fold(first, |sum: Tensor<B, 1>, next| sum + next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    #[test]
    fn three_threads_gather_in_rank_order_and_sum() {
        let work = |replica: Threads| {
            let device = Default::default();
            let rank = Collective::<Flex>::rank(&replica) as f32;
            let rows = replica.all_gather(Tensor::<Flex, 2>::from_data([[rank, 1.0]], &device));
            let sum = replica.all_reduce(Tensor::<Flex, 1>::from_data([rank, 10.0], &device));
            (
                rows.into_data().to_vec::<f32>().unwrap(),
                sum.into_data().to_vec::<f32>().unwrap(),
            )
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = Threads::group(3)
                .into_iter()
                .map(|r| scope.spawn(move || work(r)))
                .collect();
            for thread in threads {
                let (rows, sum) = thread.join().unwrap();
                assert_eq!(rows, [0.0, 1.0, 1.0, 1.0, 2.0, 1.0]);
                assert_eq!(sum, [3.0, 30.0]);
            }
        });
    }
}
