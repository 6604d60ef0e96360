//! What a method makes of samples, and the loader that does it on many threads.

use super::loaded::Loaded;
use crate::error::BoxError;
use data::{CollateError, Keyed, Loader, LoaderOptions, Sample, Sampler, Source};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// From samples, of images with their texts or any other kind, to the batches of a task.
pub trait Prepare<S = Sample>: Clone + Send + Sync + 'static {
    /// What is made of one sample.
    type Item: Send + 'static;
    /// What a task takes.
    type Batch: Send + 'static;

    /// Looks at what the source holds, before the first step: whether all that the method is to learn from is there.
    ///
    /// # Errors
    ///
    /// A sentence that says what was wanted, what was found and what to do.
    fn check(&self, _source: &dyn Source<S>) -> Result<(), String> {
        Ok(())
    }

    /// Prepares one sample, on one of many threads. The generator belongs to the sample's place in the epoch, so the
    /// result does not depend on the number of threads.
    ///
    /// # Errors
    ///
    /// When the sample cannot be used; it is then replaced, counted and named in the log.
    fn item(&self, sample: S, rng: &mut ChaCha8Rng) -> Result<Self::Item, BoxError>;

    /// Joins items to a batch; should be quick.
    ///
    /// # Errors
    ///
    /// When some items, or all, do not go together.
    fn batch(&self, items: Vec<Self::Item>) -> Result<Self::Batch, CollateError>;
}

/// Batches of a source, made by the loader's threads; `group` of them make a step. What the source holds is the first
/// that is told.
pub fn prepared<S: Keyed + 'static, P: Prepare<S>>(
    prepare: P,
    source: Arc<dyn Source<S>>,
    sampler: Sampler,
    options: LoaderOptions,
    group: usize,
) -> Loaded<P::Batch> {
    let held = source.reports().iter().map(ToString::to_string).collect();
    Loaded::new(sampler, options, group, held, move |sampler, options| {
        let (item, batch) = (prepare.clone(), prepare.clone());
        Loader::with_prepare(
            source.clone(),
            sampler,
            options,
            move |sample, rng| item.item(sample, rng),
            move |items, _| batch.batch(items),
        )
    })
}
