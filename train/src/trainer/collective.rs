//! Tensors among replicas of a model.
//!
//! The engine cuts the graph at the embeddings, so no operation here needs a gradient: embeddings are gathered as plain
//! values, every replica answers for its own rows of the loss, and the parameter gradients of the towers are summed.

use crate::error::{Result, TrainError};
use burn::prelude::*;
use burn::tensor::DType;
pub use dist::{Flags, Single, Threads, World};
use std::any::Any;
use std::fmt;
use std::sync::Arc;

/// Values that are summed at once, 64 MiB of them: few messages, and no second copy of all gradients.
const BUCKET: usize = 1 << 24;

/// A [`World`] that moves tensors. By default they go through host memory; whoever can move them from device to device
/// says how.
pub trait Collective<B: Backend>: World {
    /// The rows of all replicas in the order of their ranks.
    ///
    /// # Shapes
    ///
    /// - rows: `[n, dim]`, the same on every replica
    /// - output: `[size * n, dim]`
    ///
    /// # Errors
    ///
    /// When another replica is gone, or gives another number of rows.
    fn gather_rows(&self, rows: Tensor<B, 2>) -> Result<Tensor<B, 2>> {
        if self.size() == 1 {
            return Ok(rows);
        }
        let ([n, dim], place) = (rows.dims(), (rows.device(), rows.dtype()));
        let all = self.all_gather(&on_host(rows)?)?;
        Ok(on_device(all, [self.size() * n, dim], &place))
    }

    /// The sums over all replicas of the rows that belong to this one: the inverse way of
    /// [`gather_rows`](Self::gather_rows), for gradients.
    ///
    /// # Shapes
    ///
    /// - rows: `[size * n, dim]`, the same on every replica
    /// - output: `[n, dim]`
    ///
    /// # Errors
    ///
    /// When another replica is gone, or gives another number of rows.
    fn scatter_rows(&self, rows: Tensor<B, 2>) -> Result<Tensor<B, 2>> {
        if self.size() == 1 {
            return Ok(rows);
        }
        let ([all, dim], place) = (rows.dims(), (rows.device(), rows.dtype()));
        let mine = self.reduce_scatter(&on_host(rows)?)?;
        Ok(on_device(mine, [all / self.size(), dim], &place))
    }

    /// The sums over all replicas, of a whole list at once.
    ///
    /// # Errors
    ///
    /// When another replica is gone, or gives another number of values.
    fn sum(&self, values: Vec<Tensor<B, 1>>) -> Result<Vec<Tensor<B, 1>>> {
        if self.size() == 1 {
            return Ok(values);
        }
        let mut sums = Vec::with_capacity(values.len());
        let mut bucket = Bucket::default();
        for value in values {
            if bucket.values.len() + value.dims()[0] > BUCKET {
                bucket.sum(self, &mut sums)?;
            }
            bucket.put(value)?;
        }
        bucket.sum(self, &mut sums)?;
        Ok(sums)
    }
}

impl<B: Backend> Collective<B> for Single {}
impl<B: Backend> Collective<B> for Threads {}
impl<B: Backend> Collective<B> for Arc<dyn World> {}

/// A faster way than through host memory, for the tensors of one backend.
#[derive(Clone)]
pub struct Direct(Arc<dyn Any + Send + Sync>);

/// [`Collective`] of one backend behind `dyn Any`.
type Boxed<B> = Box<dyn Collective<B>>;

impl Direct {
    /// For the tensors of `B`.
    pub fn new<B: Backend>(collective: impl Collective<B> + 'static) -> Self {
        let boxed: Boxed<B> = Box::new(collective);
        Self(Arc::new(boxed))
    }

    /// The same, if it is for the tensors of `B`.
    pub fn of<B: Backend>(&self) -> Option<&dyn Collective<B>> {
        let boxed = self.0.downcast_ref::<Boxed<B>>()?;
        Some(&**boxed)
    }
}

impl fmt::Debug for Direct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Direct")
    }
}

/// Values of several tensors on their way.
struct Bucket<B: Backend> {
    values: Vec<f32>,
    of: Vec<(usize, Place<B>)>,
}

impl<B: Backend> Default for Bucket<B> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            of: Vec::new(),
        }
    }
}

impl<B: Backend> Bucket<B> {
    fn put(&mut self, value: Tensor<B, 1>) -> Result<()> {
        let place = (value.device(), value.dtype());
        self.of.push((value.dims()[0], place));
        self.values.extend(on_host(value)?);
        Ok(())
    }

    /// Empties the bucket.
    fn sum<W: World + ?Sized>(&mut self, world: &W, into: &mut Vec<Tensor<B, 1>>) -> Result<()> {
        if self.of.is_empty() {
            return Ok(());
        }
        world.all_reduce(&mut self.values)?;
        let mut rest = self.values.as_slice();
        for (length, place) in self.of.drain(..) {
            let (value, after) = rest.split_at(length);
            into.push(on_device(value.to_vec(), [length], &place));
            rest = after;
        }
        self.values.clear();
        Ok(())
    }
}

/// Where a tensor lies, and as what.
type Place<B> = (<B as burn::tensor::backend::BackendTypes>::Device, DType);

fn on_host<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Result<Vec<f32>> {
    in_f32(tensor.into_data())
}

/// Whatever the dtype, values travel in f32: what is summed in bf16 would lose bits with every replica.
pub(super) fn in_f32(data: TensorData) -> Result<Vec<f32>> {
    let data = data.convert::<f32>();
    data.into_vec::<f32>().map_err(|error| TrainError::Task {
        what: "reading values for the other replicas",
        source: format!("{error:?}").into(),
    })
}

fn on_device<B: Backend, const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    (device, dtype): &Place<B>,
) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), (device, *dtype))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    #[test]
    fn tensors_are_gathered_scattered_and_summed_in_the_order_of_ranks() {
        let work = |replica: Threads| {
            let device = Default::default();
            let value = replica.rank() as f32;
            let host = |t: Tensor<Flex, 1>| t.into_data().to_vec::<f32>().unwrap();
            let rows = Tensor::<Flex, 2>::from_data([[value, 1.0]], &device);
            let all = replica.gather_rows(rows).unwrap();
            let own = replica.scatter_rows(all.clone()).unwrap();
            let values = vec![
                Tensor::<Flex, 1>::from_data([value, 10.0], &device),
                Tensor::<Flex, 1>::from_data([1.0], &device),
            ];
            let sums: Vec<_> = replica.sum(values).unwrap().into_iter().map(host).collect();
            (host(all.flatten(0, 1)), host(own.flatten(0, 1)), sums)
        };
        std::thread::scope(|scope| {
            let replicas = Threads::group(3).into_iter();
            let threads: Vec<_> = replicas.map(|r| scope.spawn(move || work(r))).collect();
            for (rank, thread) in threads.into_iter().enumerate() {
                let (all, own, sums) = thread.join().unwrap();
                assert_eq!(all, [0.0, 1.0, 1.0, 1.0, 2.0, 1.0]);
                assert_eq!(own, [3.0 * rank as f32, 3.0]);
                assert_eq!(sums, [vec![3.0, 30.0], vec![3.0]]);
            }
        });
    }
}
