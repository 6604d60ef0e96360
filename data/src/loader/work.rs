//! What the loader's threads do: make samples, and of the samples of a batch the batch.

use std::any::Any;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender};
use rand_chacha::ChaCha8Rng;

// A circle on purpose: the parent is the face of the loader, this its inside.
use super::{CollateError, Skipped};
use crate::error::DataError;
use crate::sampler::{Purpose, Sampler};
use crate::source::{Keyed, Source};

/// After so many unusable samples for one place, nearly everything is unusable.
const MAX_ATTEMPTS: u64 = 50;

/// One batch: `count` samples from `position` of `epoch` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub epoch: u64,
    pub position: usize,
    pub count: usize,
}

/// A finished batch.
pub(super) struct Delivery<B> {
    pub batch: B,
    pub plan: Plan,
    pub skipped: Vec<Skipped>,
}

/// One sample to be made.
pub(super) struct Task<I> {
    batch: Arc<Assembly<I>>,
    slot: usize,
}

/// A batch in the making.
struct Assembly<I> {
    number: u64,
    plan: Plan,
    slots: Mutex<Slots<I>>,
}

struct Slots<I> {
    made: Vec<Option<Made<I>>>,
    missing: usize,
}

/// A prepared sample and the attempts it took.
struct Made<I> {
    item: I,
    attempt: u64,
    skipped: Vec<Skipped>,
    /// For messages, should `collate` refuse it.
    index: usize,
    key: String,
}

impl<I> Task<I> {
    /// The samples of a batch.
    pub fn of_batch(number: u64, plan: Plan) -> impl Iterator<Item = Self> {
        let made = (0..plan.count).map(|_| None).collect();
        let slots = Mutex::new(Slots {
            made,
            missing: plan.count,
        });
        let batch = Arc::new(Assembly {
            number,
            plan,
            slots,
        });
        (0..plan.count).map(move |slot| Self {
            batch: batch.clone(),
            slot,
        })
    }
}

/// A thread's life: tasks until the loader hangs up.
pub(super) fn run<S, I, B, P, C>(
    maker: &Maker<S, P, C>,
    tasks: &Receiver<Task<I>>,
    deliveries: &Sender<(u64, Result<Delivery<B>, DataError>)>,
    stop: &AtomicBool,
) where
    S: Keyed,
    P: Fn(S, &mut ChaCha8Rng) -> Result<I, Box<dyn Error + Send + Sync>>,
    C: Fn(Vec<I>, &mut ChaCha8Rng) -> Result<B, CollateError>,
{
    for task in tasks {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let done = catch_unwind(AssertUnwindSafe(|| maker.work(&task)));
        let delivery = match done {
            Ok(Ok(None)) => continue,
            Ok(Ok(Some(delivery))) => Ok(delivery),
            Ok(Err(error)) => Err(error),
            Err(panic) => Err(DataError::WorkerPanicked(message(&*panic))),
        };
        if deliveries.send((task.batch.number, delivery)).is_err() {
            return;
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}

/// All that makes a batch a function of its plan.
pub(super) struct Maker<S, P, C> {
    pub source: Arc<dyn Source<S>>,
    pub sampler: Sampler,
    pub prepare: P,
    pub collate: C,
}

impl<S, I, B, P, C> Maker<S, P, C>
where
    S: Keyed,
    P: Fn(S, &mut ChaCha8Rng) -> Result<I, Box<dyn Error + Send + Sync>>,
    C: Fn(Vec<I>, &mut ChaCha8Rng) -> Result<B, CollateError>,
{
    /// Makes one sample, and the batch if it was the last one missing.
    fn work(&self, task: &Task<I>) -> Result<Option<Delivery<B>>, DataError> {
        let made = self.make(task.batch.plan, task.slot, 0)?;
        let all = {
            let mut slots = task
                .batch
                .slots
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            slots.made[task.slot] = Some(made);
            slots.missing -= 1;
            if slots.missing > 0 {
                return Ok(None);
            }
            std::mem::take(&mut slots.made)
        };
        self.collate(task.batch.plan, all.into_iter().flatten().collect())
            .map(Some)
    }

    /// Makes the sample of a slot, from `attempt` on: attempt 0 is the epoch's own sample, the
    /// others replace it.
    fn make(&self, plan: Plan, slot: usize, attempt: u64) -> Result<Made<I>, DataError> {
        let (epoch, position) = (plan.epoch, plan.position + slot);
        let mut skipped = Vec::new();
        for attempt in attempt..MAX_ATTEMPTS {
            let index = match attempt {
                0 => self.sampler.index(epoch, position),
                _ => self.sampler.replacement(epoch, position, attempt),
            };
            let mut rng =
                self.sampler
                    .stream(epoch, Purpose::Prepare, self.sampler.place(position) as u64);
            rng.set_stream(attempt);
            let mut key = None;
            // A decoder that panics at a damaged image costs this sample, not the run: a resumed run
            // would meet it again.
            let prepared = catch_unwind(AssertUnwindSafe(|| {
                let sample = self.source.get(index).map_err(|error| error.to_string())?;
                key = Some(sample.key().to_string());
                (self.prepare)(sample, &mut rng).map_err(|error| error.to_string())
            }));
            let prepared = prepared
                .unwrap_or_else(|panic| Err(format!("reading it panicked: {}", message(&*panic))));
            let reason = match prepared {
                Ok(item) => {
                    return Ok(Made {
                        item,
                        attempt,
                        skipped,
                        index,
                        key: key.unwrap_or_default(),
                    });
                }
                Err(reason) => reason,
            };
            skipped.push(Skipped {
                epoch,
                source: self.source.name(),
                index,
                key,
                reason,
            });
        }
        Err(self.hopeless(skipped))
    }

    fn hopeless(&self, skipped: Vec<Skipped>) -> DataError {
        DataError::TooManyUnreadable {
            name: self.source.name(),
            bad: skipped.len(),
            seen: skipped.len(),
            max_bad: 1.0,
            latest: skipped.last().map(Skipped::to_string).unwrap_or_default(),
        }
    }

    /// Collates; where `collate` refuses samples, they are replaced and all are made again, which
    /// gives the others unchanged.
    fn collate(&self, plan: Plan, mut made: Vec<Made<I>>) -> Result<Delivery<B>, DataError> {
        let mut skipped: Vec<Skipped> = made
            .iter_mut()
            .flat_map(|made| std::mem::take(&mut made.skipped))
            .collect();
        let place = self.sampler.place(plan.position) as u64;
        loop {
            let origins: Vec<_> = made
                .iter()
                .map(|made| (made.index, made.key.clone(), made.attempt))
                .collect();
            let items = made.into_iter().map(|made| made.item).collect();
            let mut rng = self.sampler.stream(plan.epoch, Purpose::Collate, place);
            let refused = match (self.collate)(items, &mut rng) {
                Ok(batch) => {
                    return Ok(Delivery {
                        batch,
                        plan,
                        skipped,
                    });
                }
                Err(CollateError::Fatal(error)) => return Err(failure(plan, error.to_string())),
                Err(CollateError::Samples(refused)) => refused,
            };
            if refused.is_empty() || refused.iter().any(|(slot, _)| *slot >= plan.count) {
                return Err(failure(
                    plan,
                    "`collate` refused samples that are not in the batch".into(),
                ));
            }
            let mut attempts: Vec<u64> = origins.iter().map(|origin| origin.2).collect();
            for (slot, reason) in refused {
                let (index, key, attempt) = origins[slot].clone();
                attempts[slot] = attempt + 1;
                let source = self.source.name();
                skipped.push(Skipped {
                    epoch: plan.epoch,
                    source,
                    index,
                    key: Some(key),
                    reason,
                });
            }
            if attempts.iter().any(|attempt| *attempt >= MAX_ATTEMPTS) {
                return Err(self.hopeless(skipped));
            }
            made = Vec::with_capacity(plan.count);
            for (slot, attempt) in attempts.into_iter().enumerate() {
                let mut again = self.make(plan, slot, attempt)?;
                skipped.append(&mut again.skipped);
                made.push(again);
            }
        }
    }
}

fn failure(plan: Plan, what: String) -> DataError {
    DataError::Collate {
        epoch: plan.epoch,
        position: plan.position,
        what,
    }
}
