//! The loader of the `data` crate as a stream of [`Batches`].

use crate::batches::Batches;
use crate::error::BoxError;
use data::{DataError, Loader, LoaderOptions, Sampler};
use std::time::Duration;

/// Starts a loader at the place where the sampler stands.
pub type Open<T> = Box<dyn Fn(Sampler, LoaderOptions) -> Result<Loader<T>, DataError>>;

/// Batches from disk. After a jump, such as a resume, the loader is started anew at the right place.
pub struct Loaded<T> {
    open: Open<T>,
    sampler: Sampler,
    options: LoaderOptions,
    loader: Option<Loader<T>>,
    next: u64,
    /// Time waited for loaders that are gone.
    waited: Duration,
    /// Replaced samples that were told, of this loader.
    told: usize,
}

impl<T: Send + 'static> Loaded<T> {
    /// Batches of `options.batch_size` in the order of `sampler`; incomplete ones at the end of an epoch are
    /// left out. Epochs go on as long as batches are asked for.
    pub fn new(
        sampler: Sampler,
        options: LoaderOptions,
        open: impl Fn(Sampler, LoaderOptions) -> Result<Loader<T>, DataError> + 'static,
    ) -> Self {
        Self {
            open: Box::new(open),
            sampler: sampler.keep_tail(false),
            options: LoaderOptions {
                epochs: Some(u64::MAX),
                ..options
            },
            loader: None,
            next: 0,
            waited: Duration::ZERO,
            told: 0,
        }
    }

    /// The loader, standing before batch `position`.
    fn loader_at(&mut self, position: u64) -> Result<&mut Loader<T>, DataError> {
        if self.next != position
            && let Some(old) = self.loader.take()
        {
            self.waited += wait(&old);
        }
        self.next = position;
        if self.loader.is_none() {
            let per_epoch = self.per_epoch().max(1);
            let samples = (position % per_epoch) as usize * self.options.batch_size;
            let sampler = self.sampler.clone().at(position / per_epoch, samples);
            self.loader = Some((self.open)(sampler, self.options.clone())?);
            self.told = 0;
        }
        Ok(self.loader.as_mut().expect("it was just opened"))
    }
}

impl<T: Send + 'static> Batches<T> for Loaded<T> {
    fn per_epoch(&self) -> u64 {
        (self.sampler.len() / self.options.batch_size.max(1)) as u64
    }

    fn get(&mut self, position: u64) -> Result<T, BoxError> {
        let batch = self
            .loader_at(position)?
            .next()
            .ok_or("the loader has ended")??;
        self.next = position + 1;
        Ok(batch)
    }

    fn waited(&self) -> Duration {
        self.waited + self.loader.as_ref().map_or(Duration::ZERO, wait)
    }

    /// Names every sample that was replaced, the first hundred where one batch has more.
    fn notes(&mut self) -> Vec<String> {
        let Some(loader) = &mut self.loader else {
            return Vec::new();
        };
        let named = loader.take_untold();
        let mut notes: Vec<String> = named.iter().map(|s| format!("replaced {s}")).collect();
        let skipped = loader.report().skipped;
        let more = skipped - self.told - named.len();
        if more > 0 {
            notes.push(format!("replaced {more} more, {skipped} so far"));
        }
        self.told = skipped;
        notes
    }
}

/// Waiting for the first batch is start-up, not a slow loader.
fn wait<T>(loader: &Loader<T>) -> Duration
where
    T: Send + 'static,
{
    loader.report().waited
}

#[cfg(test)]
mod tests {
    use super::*;
    use data::{Sample, Source};
    use std::sync::Arc;

    struct Numbers(usize);

    impl Source for Numbers {
        fn len(&self) -> usize {
            self.0
        }
        fn get(&self, index: usize) -> Result<Sample, DataError> {
            Ok(Sample {
                key: index.to_string(),
                ..Default::default()
            })
        }
        fn name(&self) -> String {
            "numbers".into()
        }
    }

    fn stream() -> Loaded<Vec<String>> {
        let source: Arc<dyn Source> = Arc::new(Numbers(11));
        Loaded::new(
            Sampler::shuffled(11, 7),
            LoaderOptions::new(3, 2),
            move |sampler, options| {
                Loader::new(source.clone(), sampler, options, |samples, _| {
                    Ok(samples.into_iter().map(|s| s.key).collect())
                })
            },
        )
    }

    #[test]
    fn a_jump_gives_what_counting_up_gives() {
        let mut all = stream();
        assert_eq!(all.per_epoch(), 3);
        let all: Vec<_> = (0..9).map(|position| all.get(position).unwrap()).collect();
        for start in [1, 3, 5, 8] {
            let mut jumped = stream();
            assert_eq!(jumped.get(start).unwrap(), all[start as usize]);
        }
        let mut skipping = stream();
        for position in [0, 2, 3, 7] {
            assert_eq!(skipping.get(position).unwrap(), all[position as usize]);
        }
        assert_ne!(all[0], all[3], "epochs have different orders");
    }
}
