//! Batches made ahead of time on threads, in an order that does not depend on how many there are.
//!
//! The unit of work is a sample, not a batch: all threads work on the next batch together, so it is
//! there as early as possible and few batches are in memory. The thread that finishes a batch's
//! last sample collates it.

mod report;
mod work;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, unbounded};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use report::{LoaderReport, Skipped};

use self::work::{Delivery, Maker, Plan, Task};
use crate::error::DataError;
use crate::sampler::Sampler;
use crate::source::{Keyed, Source};

/// How batches are made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderOptions {
    /// Samples in a batch of this process.
    pub batch_size: usize,
    /// Threads that read, prepare and collate.
    pub workers: usize,
    /// Batches in memory at most: being made, or waiting to be taken.
    pub ahead: usize,
    /// The loader ends before this epoch; `None`: at the end of the epoch the sampler stands in.
    pub epochs: Option<u64>,
    /// Share of unreadable samples above which loading stops.
    pub max_bad: f64,
}

impl Default for LoaderOptions {
    /// 64 samples, a thread per core, three batches.
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            batch_size: 64,
            workers,
            ahead: 3,
            epochs: None,
            max_bad: 0.05,
        }
    }
}

impl LoaderOptions {
    /// Batches of `batch_size` made by `workers` threads.
    pub fn new(batch_size: usize, workers: usize) -> Self {
        Self {
            batch_size,
            workers,
            ..Self::default()
        }
    }
}

/// Why `collate` could not make a batch. Any error converts to [`CollateError::Fatal`].
#[derive(Debug)]
pub enum CollateError {
    /// These samples, by their place in the batch, cannot be used: they are replaced and the batch
    /// is made again. Name all at once; decoding in `prepare` is cheaper if bad samples are common.
    Samples(Vec<(usize, String)>),
    /// Loading cannot go on.
    Fatal(Box<dyn Error + Send + Sync>),
}

impl<E: Error + Send + Sync + 'static> From<E> for CollateError {
    fn from(error: E) -> Self {
        Self::Fatal(Box::new(error))
    }
}

/// An iterator over the batches of one process, made by threads of its own.
///
/// Batch `i` of an epoch is a pure function of the sampler's seed, the epoch and `i`: it does not
/// depend on the number of threads. The generator given to `prepare` belongs to the sample's place
/// in the epoch, that given to `collate` to the batch.
///
/// A sample that cannot be read or prepared, or at which that panics, is skipped, counted and named in [`Loader::report`]. In
/// its place comes a sample drawn uniformly from the whole source by (seed, epoch, place, attempt),
/// so batches keep their size and the stream stays reproducible. Loading stops with an error when
/// the unreadable samples are more than `max_bad` of those seen (of the first thousand, or the
/// first epoch if it is shorter, while fewer have been seen).
///
/// After an error the iterator ends. Dropping the loader stops and joins its threads.
pub struct Loader<B> {
    /// Where the consumer stands: after the last batch that was taken.
    sampler: Sampler,
    options: LoaderOptions,
    name: String,
    /// Epoch and position of the next batch to hand out to the threads.
    cursor: (u64, usize),
    /// The epoch before which loading ends.
    end: u64,
    submitted: u64,
    taken: u64,
    submit: Option<Box<dyn Fn(u64, Plan) + Send>>,
    deliveries: Receiver<(u64, Result<Delivery<B>, DataError>)>,
    /// Batches that were finished before their turn.
    early: BTreeMap<u64, Result<Delivery<B>, DataError>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    report: LoaderReport,
}

impl<B: Send + 'static> Loader<B> {
    /// A loader whose `collate` makes a batch of samples at once: decoding, augmentation and choice
    /// of text included. One thread works on one batch then; [`Loader::with_prepare`] has all
    /// threads work on the same batch.
    pub fn new<S, C>(
        source: Arc<dyn Source<S>>,
        sampler: Sampler,
        options: LoaderOptions,
        collate: C,
    ) -> Result<Self, DataError>
    where
        S: Keyed + Send + 'static,
        C: Fn(Vec<S>, &mut ChaCha8Rng) -> Result<B, CollateError> + Send + Sync + 'static,
    {
        // A thread that collates does not help with the next batch, so each needs a batch of its
        // own.
        let ahead = options.ahead.max(options.workers + 1);
        Self::with_prepare(
            source,
            sampler,
            LoaderOptions { ahead, ..options },
            |sample, _| Ok(sample),
            collate,
        )
    }

    /// A loader that calls `prepare` on each sample (decode, augment, choose a text) and `collate`
    /// on the results of a batch, which should be quick.
    ///
    /// # Errors
    ///
    /// Fails if the sampler is not for this source, if an epoch does not fill a batch, and on
    /// options of zero.
    pub fn with_prepare<S, I, P, C>(
        source: Arc<dyn Source<S>>,
        sampler: Sampler,
        options: LoaderOptions,
        prepare: P,
        collate: C,
    ) -> Result<Self, DataError>
    where
        S: Keyed + 'static,
        I: Send + 'static,
        P: Fn(S, &mut ChaCha8Rng) -> Result<I, Box<dyn Error + Send + Sync>>
            + Send
            + Sync
            + 'static,
        C: Fn(Vec<I>, &mut ChaCha8Rng) -> Result<B, CollateError> + Send + Sync + 'static,
    {
        let name = source.name();
        check(&*source, &sampler, &options)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (task_sender, task_receiver) = unbounded::<Task<I>>();
        let (delivery_sender, deliveries) = unbounded();
        let maker = Arc::new(Maker {
            source,
            sampler: sampler.clone(),
            prepare,
            collate,
        });
        let threads = (0..options.workers).map(|number| {
            let (maker, stop) = (maker.clone(), stop.clone());
            let (tasks, deliveries) = (task_receiver.clone(), delivery_sender.clone());
            std::thread::Builder::new()
                .name(format!("loader-{number}"))
                .spawn(move || work::run(&maker, &tasks, &deliveries, &stop))
        });
        let threads = threads.collect::<Result<Vec<_>, _>>().map_err(|error| {
            DataError::Config(format!(
                "cannot start {} loader threads: {error}; use fewer",
                options.workers
            ))
        })?;

        let submit = move |number, plan: Plan| {
            Task::of_batch(number, plan).for_each(|task| {
                // The threads only hang up after a failure, which is delivered.
                let _ = task_sender.send(task);
            })
        };
        let mut loader = Self {
            cursor: (sampler.epoch(), sampler.position()),
            end: options.epochs.unwrap_or(sampler.epoch() + 1),
            sampler,
            options,
            name,
            submitted: 0,
            taken: 0,
            submit: Some(Box::new(submit)),
            deliveries,
            early: BTreeMap::new(),
            stop,
            threads,
            report: LoaderReport::default(),
        };
        loader.fill();
        Ok(loader)
    }

    /// The sampler after the last batch that was taken: what a checkpoint saves.
    pub fn sampler(&self) -> &Sampler {
        &self.sampler
    }

    /// What was loaded so far, how long the caller waited for it, and what was skipped.
    pub fn report(&self) -> &LoaderReport {
        &self.report
    }

    /// Takes the samples skipped since the last call, the first [`LoaderReport::KEPT`] of them.
    pub fn take_untold(&mut self) -> Vec<Skipped> {
        std::mem::take(&mut self.report.untold)
    }

    /// Batches an epoch has when it is loaded from its beginning.
    pub fn batches_per_epoch(&self) -> usize {
        let (len, size) = (self.sampler.len(), self.options.batch_size);
        if self.sampler.keeps_tail() {
            len.div_ceil(size)
        } else {
            len / size
        }
    }

    /// Hands out batches until `ahead` are in memory.
    fn fill(&mut self) {
        while self.submitted - self.taken < self.options.ahead as u64 {
            let Some(plan) = self.plan() else { return };
            if let Some(submit) = &self.submit {
                submit(self.submitted, plan);
            }
            self.submitted += 1;
        }
    }

    /// The next batch to be made; moves the cursor behind it. `None` after the last epoch.
    fn plan(&mut self) -> Option<Plan> {
        while self.cursor.0 < self.end {
            let (epoch, position) = self.cursor;
            match self.count_at(position) {
                0 => self.cursor = (epoch + 1, 0),
                count => {
                    self.cursor = (epoch, position + count);
                    return Some(Plan {
                        epoch,
                        position,
                        count,
                    });
                }
            }
        }
        None
    }

    /// Size of the batch that begins at a position; 0 if there is none.
    fn count_at(&self, position: usize) -> usize {
        let (left, size) = (
            self.sampler.len().saturating_sub(position),
            self.options.batch_size,
        );
        if left >= size || self.sampler.keeps_tail() {
            left.min(size)
        } else {
            0
        }
    }

    /// Waits for the next batch in order.
    fn receive(&mut self) -> Result<Delivery<B>, DataError> {
        let start = Instant::now();
        let delivery = loop {
            if let Some(delivery) = self.early.remove(&self.taken) {
                break delivery;
            }
            match self.deliveries.recv() {
                Ok((number, delivery)) => self.early.insert(number, delivery),
                Err(_) => break Err(DataError::WorkerPanicked("all threads ended".into())),
            };
        };
        self.report.wait(start.elapsed());
        delivery
    }

    /// Counts a batch and moves the sampler behind it.
    fn account(&mut self, delivery: Delivery<B>) -> Result<B, DataError> {
        let Delivery {
            batch,
            plan,
            skipped,
        } = delivery;
        self.report.add(plan.count, skipped);
        let report = &self.report;
        let (bad, seen) = (report.skipped, report.samples + report.skipped);
        let base = seen.max(self.sampler.len().min(1000));
        if bad as f64 > self.options.max_bad * base as f64 {
            let latest = report
                .latest
                .as_ref()
                .map(Skipped::to_string)
                .unwrap_or_default();
            let (name, max_bad) = (self.name.clone(), self.options.max_bad);
            return Err(DataError::TooManyUnreadable {
                name,
                bad,
                seen,
                max_bad,
                latest,
            });
        }
        let end = plan.position + plan.count;
        let place = if self.count_at(end) == 0 {
            (plan.epoch + 1, 0)
        } else {
            (plan.epoch, end)
        };
        self.sampler = self.sampler.clone().at(place.0, place.1);
        Ok(batch)
    }

    /// Makes the threads end soon: they look at `stop` before each sample.
    fn hang_up(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.submit = None;
    }
}

impl<B: Send + 'static> Iterator for Loader<B> {
    type Item = Result<B, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.submit.is_none() || self.taken == self.submitted {
            return None;
        }
        let result = self.receive().and_then(|delivery| self.account(delivery));
        match result {
            Ok(batch) => {
                self.taken += 1;
                self.fill();
                Some(Ok(batch))
            }
            Err(error) => {
                self.hang_up();
                Some(Err(error))
            }
        }
    }
}

impl<B> Drop for Loader<B> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.submit = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked outside of the caller's code has nothing left to tell.
            let _ = thread.join();
        }
    }
}

/// More samples, threads or batches than this are a slip of the pen, and would take all memory.
const MOST_SAMPLES: usize = 1 << 20;
const MOST_WORKERS: usize = 4096;
const MOST_AHEAD: usize = 65_536;

fn check<S>(
    source: &dyn Source<S>,
    sampler: &Sampler,
    options: &LoaderOptions,
) -> Result<(), DataError> {
    let LoaderOptions {
        batch_size,
        workers,
        ahead,
        ..
    } = *options;
    if batch_size == 0 || workers == 0 || ahead == 0 {
        let what = format!(
            "batch_size {batch_size}, workers {workers}, ahead {ahead}: all must be 1 or more"
        );
        return Err(DataError::Config(what));
    }
    if batch_size > MOST_SAMPLES || workers > MOST_WORKERS || ahead > MOST_AHEAD {
        let what = format!(
            "batch_size {batch_size}, workers {workers}, ahead {ahead}: at most {MOST_SAMPLES} samples in a batch, {MOST_WORKERS} \
             threads and {MOST_AHEAD} batches ahead are possible"
        );
        return Err(DataError::Config(what));
    }
    if sampler.source_len() != source.len() {
        let (name, has, wants) = (source.name(), source.len(), sampler.source_len());
        let what = format!(
            "{name} has {has} samples, but the sampler is for {wants}; was the data changed since?"
        );
        return Err(DataError::Config(what));
    }
    if sampler.is_empty() || (sampler.len() < batch_size && !sampler.keeps_tail()) {
        let (name, len) = (source.name(), sampler.len());
        let what = format!(
            "{name}: an epoch of {len} samples does not fill a batch of {batch_size}; use a smaller batch"
        );
        return Err(DataError::Config(what));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
