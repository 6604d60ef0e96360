//! The loader of the `data` crate as a stream of [`Batches`].

use super::batches::Batches;
use super::place::Place;
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
    /// Samples in a step.
    group: usize,
    loader: Option<Loader<T>>,
    next: Place,
    /// Time waited for loaders that are gone.
    waited: Duration,
    /// Replaced samples that were told, of this loader.
    told: usize,
    untold: Vec<String>,
}

impl<T: Send + 'static> Loaded<T> {
    /// Batches of `options.batch_size` in the order of `sampler`, of which `group` make a step; what does not fill a step
    /// at the end of an epoch is left out. Epochs go on as long as batches are asked for. `untold` is told first.
    pub fn new(
        sampler: Sampler,
        options: LoaderOptions,
        group: usize,
        untold: Vec<String>,
        open: impl Fn(Sampler, LoaderOptions) -> Result<Loader<T>, DataError> + 'static,
    ) -> Self {
        Self {
            open: Box::new(open),
            sampler: sampler.keep_tail(false),
            group: group.saturating_mul(options.batch_size),
            untold,
            options: LoaderOptions {
                epochs: Some(u64::MAX),
                ..options
            },
            loader: None,
            next: Place::default(),
            waited: Duration::ZERO,
            told: 0,
        }
    }

    /// The loader, standing at `place`.
    fn loader_at(&mut self, place: Place) -> Result<&mut Loader<T>, DataError> {
        if self.next != place
            && let Some(old) = self.loader.take()
        {
            self.waited += wait(&old);
        }
        self.next = place;
        if self.loader.is_none() {
            let sampler = self.sampler.clone().at(place.epoch, place.sample as usize);
            // After a change of the batch size a step may begin anywhere; the next epoch is in step again.
            let sampler = match (place.sample as usize).is_multiple_of(self.group) {
                true => sampler.whole(self.group),
                false => sampler,
            };
            self.loader = Some((self.open)(sampler, self.options.clone())?);
            self.told = 0;
        }
        Ok(self.loader.as_mut().expect("it was just opened"))
    }
}

impl<T: Send + 'static> Batches<T> for Loaded<T> {
    fn samples_per_epoch(&self) -> u64 {
        self.sampler.len() as u64
    }

    fn batch_size(&self) -> u64 {
        self.options.batch_size as u64
    }

    fn get(&mut self, place: Place) -> Result<T, BoxError> {
        let batch = self
            .loader_at(place)?
            .next()
            .ok_or("the loader has ended")??;
        // The loader goes on in the next epoch where this one holds no further step.
        let (size, group) = (self.batch_size(), self.group as u64);
        let whole = self.samples_per_epoch() / group * group;
        self.next = place.plus(size).before(size, whole);
        Ok(batch)
    }

    fn waited(&self) -> Duration {
        self.waited + self.loader.as_ref().map_or(Duration::ZERO, wait)
    }

    /// Names every sample that was replaced, the first hundred where one batch has more.
    fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.untold);
        let Some(loader) = &mut self.loader else {
            return notes;
        };
        let named = loader.take_untold();
        notes.extend(named.iter().map(|s| format!("replaced {s}")));
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
            1,
            Vec::new(),
            move |sampler, options| {
                Loader::new(source.clone(), sampler, options, |samples, _| {
                    Ok(samples.into_iter().map(|s| s.key).collect())
                })
            },
        )
    }

    #[test]
    fn a_jump_gives_what_counting_up_gives() {
        let place = |batch: u64| Place {
            epoch: batch / 3,
            sample: batch % 3 * 3,
        };
        let mut all = stream();
        assert_eq!(all.samples_per_epoch(), 11);
        let all: Vec<_> = (0..9).map(|batch| all.get(place(batch)).unwrap()).collect();
        for start in [1, 3, 5, 8] {
            let mut jumped = stream();
            assert_eq!(jumped.get(place(start)).unwrap(), all[start as usize]);
        }
        let mut skipping = stream();
        for batch in [0, 2, 3, 7] {
            assert_eq!(skipping.get(place(batch)).unwrap(), all[batch as usize]);
        }
        assert_ne!(all[0], all[3], "epochs have different orders");
    }

    #[test]
    fn what_does_not_fill_a_step_is_skipped_without_a_new_loader() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (source, opened): (Arc<dyn Source>, _) =
            (Arc::new(Numbers(11)), Arc::new(AtomicUsize::new(0)));
        let count = opened.clone();
        let mut steps = Loaded::new(
            Sampler::shuffled(11, 7),
            LoaderOptions::new(2, 2),
            2,
            vec!["numbers: 11 samples".into()],
            move |sampler, options| {
                count.fetch_add(1, Ordering::Relaxed);
                Loader::new(source.clone(), sampler, options, |samples, _| {
                    Ok(samples
                        .into_iter()
                        .map(|s: Sample| s.key)
                        .collect::<Vec<_>>())
                })
            },
        );
        assert_eq!(steps.notes(), ["numbers: 11 samples"]);
        let mut place = Place::default();
        let mut seen = Vec::new();
        for _ in 0..6 {
            place = place.before(4, 11);
            for _ in 0..2 {
                seen.push(steps.get(place).unwrap());
                place = place.plus(2);
            }
        }
        assert_eq!(opened.load(Ordering::Relaxed), 1);
        // The third epoch begins as one that is jumped to.
        let third = steps
            .get(Place {
                epoch: 2,
                sample: 0,
            })
            .unwrap();
        assert_eq!(opened.load(Ordering::Relaxed), 2);
        assert_eq!(third, seen[8]);
    }
}
