//! The loader as a whole: order, resumption, bad samples, failures.

use std::collections::HashSet;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::error::Place;
use crate::sample::Sample;
use crate::sampler::Order;
use proptest::prelude::*;
use rand::Rng;

/// Samples whose image is their index; the listed ones cannot be read.
struct Numbers {
    len: usize,
    bad: HashSet<usize>,
}

impl Source for Numbers {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Sample, DataError> {
        if self.bad.contains(&index) {
            return Err(DataError::malformed(
                "numbers".as_ref(),
                Place::Member(index.to_string()),
                "unreadable",
            ));
        }
        let image = (index as u32).to_le_bytes().to_vec();
        Ok(Sample {
            key: format!("key {index}"),
            image,
            ..Sample::default()
        })
    }

    fn name(&self) -> String {
        "numbers".into()
    }
}

fn numbers(len: usize) -> Arc<Numbers> {
    Arc::new(Numbers {
        len,
        bad: HashSet::new(),
    })
}

fn broken(len: usize, bad: impl IntoIterator<Item = usize>) -> Arc<Numbers> {
    Arc::new(Numbers {
        len,
        bad: bad.into_iter().collect(),
    })
}

fn number(sample: &Sample) -> usize {
    u32::from_le_bytes(sample.image.clone().try_into().unwrap()) as usize
}

type Batch = (Vec<(usize, u32)>, u32);

/// Batches of (index, number drawn for the sample) and a number drawn for the batch.
fn loader(source: Arc<dyn Source>, sampler: Sampler, options: LoaderOptions) -> Loader<Batch> {
    let prepare = |sample: Sample, rng: &mut ChaCha8Rng| {
        let number = number(&sample);
        // Uneven work, so that threads finish out of order.
        std::thread::sleep(Duration::from_micros((number % 7) as u64 * 20));
        Ok((number, rng.random()))
    };
    Loader::with_prepare(source, sampler, options, prepare, |items, rng| {
        Ok((items, rng.random()))
    })
    .unwrap()
}

fn batches(loader: &mut Loader<Batch>) -> Vec<Batch> {
    loader.map(Result::unwrap).collect()
}

fn indices(batches: &[Batch]) -> Vec<usize> {
    batches
        .iter()
        .flat_map(|(items, _)| items.iter().map(|item| item.0))
        .collect()
}

#[test]
fn batches_do_not_depend_on_the_number_of_threads() {
    let with = |workers, ahead| {
        let options = LoaderOptions {
            ahead,
            max_bad: 1.0,
            epochs: Some(3),
            ..LoaderOptions::new(8, workers)
        };
        batches(&mut loader(
            broken(100, [3, 50, 51, 99]),
            Sampler::shuffled(100, 7),
            options,
        ))
    };
    let one = with(1, 1);
    assert_eq!(one.len(), 3 * 12);
    for (workers, ahead) in [(2, 3), (4, 2), (4, 8)] {
        assert_eq!(
            with(workers, ahead),
            one,
            "{workers} workers, {ahead} ahead"
        );
    }
}

#[test]
fn an_epoch_is_visited_in_the_samplers_order() {
    let sampler = Sampler::shuffled(50, 1).at(2, 0);
    let mut loader = loader(numbers(50), sampler.clone(), LoaderOptions::new(8, 2));
    assert_eq!(loader.batches_per_epoch(), 6);
    let got = batches(&mut loader);
    assert_eq!(indices(&got), sampler.take(48).collect::<Vec<_>>());
    assert_eq!((loader.report().batches, loader.report().samples), (6, 48));
}

#[test]
fn a_loader_of_whole_steps_goes_on_from_epoch_to_epoch() {
    // Two batches of two to a step; eleven samples are two steps and three samples.
    let sampler = Sampler::shuffled(11, 1).whole(4);
    let options = LoaderOptions {
        epochs: Some(3),
        ..LoaderOptions::new(2, 2)
    };
    let mut loader = loader(numbers(11), sampler.clone(), options);
    assert_eq!(loader.batches_per_epoch(), 4);
    let got = indices(&batches(&mut loader));
    let epochs = (0..3).flat_map(|epoch| sampler.clone().at(epoch, 0).take(8));
    assert_eq!(got, epochs.collect::<Vec<_>>());
}

#[test]
fn evaluation_keeps_the_last_partial_batch() {
    let mut loader = loader(
        numbers(10),
        Sampler::sequential(10),
        LoaderOptions::new(4, 2),
    );
    assert_eq!(loader.batches_per_epoch(), 3);
    let got = batches(&mut loader);
    assert_eq!(
        got.iter().map(|batch| batch.0.len()).collect::<Vec<_>>(),
        [4, 4, 2]
    );
    assert_eq!(indices(&got), (0..10).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn stopping_and_resuming_anywhere_gives_the_same_stream(
        len in 5usize..60, batch in 1usize..5, taken in 0usize..40, workers in 1usize..4, seed: u64, windowed: bool,
    ) {
        let order = if windowed { Order::Windowed { block: 4, window: 3 } } else { Order::Shuffled };
        let sampler = Sampler::shuffled(len, seed).with_order(order).unwrap();
        let options = LoaderOptions { epochs: Some(3), max_bad: 1.0, ..LoaderOptions::new(batch, workers) };
        let source = broken(len, [0, 3]);
        let whole = batches(&mut loader(source.clone(), sampler.clone(), options.clone()));
        let mut first = loader(source.clone(), sampler, options.clone());
        let mut joined: Vec<Batch> = first.by_ref().take(taken).map(Result::unwrap).collect();
        let saved = serde_json::to_string(first.sampler()).unwrap();
        drop(first);
        joined.extend(batches(&mut loader(source, serde_json::from_str(&saved).unwrap(), options)));
        prop_assert_eq!(joined, whole);
    }

    #[test]
    fn the_processes_of_a_run_partition_the_epoch(len in 12usize..60, world in 1usize..4) {
        let mut all = Vec::new();
        for rank in 0..world {
            let sampler = Sampler::shuffled(len, 5).keep_tail(true).sharded(rank, world).unwrap();
            all.extend(indices(&batches(&mut loader(numbers(len), sampler, LoaderOptions::new(4, 2)))));
        }
        all.sort();
        prop_assert_eq!(all, (0..len).collect::<Vec<_>>());
    }
}

#[test]
fn unreadable_samples_are_replaced_counted_and_named() {
    let options = LoaderOptions {
        max_bad: 0.2,
        ..LoaderOptions::new(10, 2)
    };
    let mut loader = loader(broken(100, [5, 6]), Sampler::shuffled(100, 3), options);
    let got = batches(&mut loader);
    assert!(got.iter().all(|batch| batch.0.len() == 10));
    assert!(indices(&got).iter().all(|index| ![5, 6].contains(index)));
    let report = loader.report();
    assert!(report.skipped >= 2, "{}", report.skipped);
    assert!(
        report
            .untold
            .iter()
            .any(|s| s.index == 5 && s.reason.contains("member 5: unreadable"))
    );
    // All other samples are where they would have been.
    let order: Vec<_> = Sampler::shuffled(100, 3).collect();
    let moved = order
        .iter()
        .zip(indices(&got))
        .filter(|(a, b)| **a != *b)
        .count();
    assert_eq!(moved, 2);
}

#[test]
fn too_many_unreadable_samples_stop_the_run() {
    let options = LoaderOptions {
        max_bad: 0.05,
        ..LoaderOptions::new(10, 2)
    };
    let mut loader = loader(broken(100, 0..30), Sampler::shuffled(100, 3), options);
    let error = loader.find_map(Result::err).unwrap().to_string();
    assert!(
        error.contains("numbers")
            && error.contains("max_bad = 0.05")
            && error.contains("unreadable"),
        "{error}"
    );
    assert!(loader.next().is_none());
    let all_bad = LoaderOptions {
        max_bad: 1.0,
        ..LoaderOptions::new(10, 2)
    };
    let mut loader = self::loader(broken(100, 0..100), Sampler::shuffled(100, 3), all_bad);
    let error = loader.next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("None could be read") && !error.contains("raise"),
        "{error}"
    );
}

/// `Loader::new` with a `collate` that refuses multiples of `refused`.
fn refusing(refused: usize, workers: usize) -> Loader<Vec<usize>> {
    let options = LoaderOptions {
        max_bad: 1.0,
        ..LoaderOptions::new(8, workers)
    };
    Loader::new(
        numbers(64),
        Sampler::shuffled(64, 2),
        options,
        move |samples: Vec<Sample>, _| {
            let numbers: Vec<_> = samples.iter().map(number).collect();
            let bad = numbers
                .iter()
                .enumerate()
                .filter(|(_, n)| **n % refused == 0);
            let bad: Vec<_> = bad
                .map(|(slot, n)| (slot, format!("{n} does not decode")))
                .collect();
            if bad.is_empty() {
                Ok(numbers)
            } else {
                Err(CollateError::Samples(bad))
            }
        },
    )
    .unwrap()
}

#[test]
fn samples_that_collate_refuses_are_replaced_too() {
    let mut loader = refusing(5, 2);
    let got: Vec<_> = loader.by_ref().map(Result::unwrap).collect();
    assert_eq!(got.len(), 8);
    assert!(got.iter().flatten().all(|n| n % 5 != 0));
    assert_eq!(got, refusing(5, 4).map(Result::unwrap).collect::<Vec<_>>());
    let skipped = &loader.report().untold;
    assert!(
        skipped.len() >= 13
            && skipped
                .iter()
                .all(|s| s.reason == format!("{} does not decode", s.index))
    );
    assert!(refusing(1, 2).next().unwrap().is_err());
}

/// A loader of forty numbers whose `prepare` and `collate` panic at what they are told.
fn panicking(prepare: fn(usize) -> bool, collate: fn(usize) -> bool) -> Loader<Vec<usize>> {
    let prepare = move |sample: Sample, _: &mut ChaCha8Rng| {
        let number = number(&sample);
        assert!(!prepare(number), "cannot stand {number}");
        Ok(number)
    };
    let collate = move |items: Vec<usize>, _: &mut ChaCha8Rng| {
        assert!(!items.iter().any(|n| collate(*n)), "cannot stand together");
        Ok(items)
    };
    let (sampler, options) = (Sampler::sequential(40), LoaderOptions::new(4, 3));
    Loader::with_prepare(numbers(40), sampler, options, prepare, collate).unwrap()
}

#[test]
fn a_sample_at_which_the_decoder_panics_is_a_bad_sample() {
    let mut loader = panicking(|n| n == 17, |_| false);
    let got: Vec<_> = loader.by_ref().flat_map(Result::unwrap).collect();
    assert_eq!(got.len(), 40);
    assert!(!got.contains(&17));
    let skipped = &loader.report().untold;
    assert!(skipped.iter().all(|skipped| {
        skipped.index == 17
            && skipped.key.as_deref() == Some("key 17")
            && skipped.reason == "reading it panicked: cannot stand 17"
    }));
    assert!(!skipped.is_empty());
    let hopeless = panicking(|_| true, |_| false).next().unwrap().unwrap_err();
    assert!(hopeless.to_string().contains("cannot stand"), "{hopeless}");
}

#[test]
fn a_panic_of_collate_or_a_fatal_error_ends_the_loader_with_a_message() {
    let mut loader = panicking(|_| false, |n| n == 17);
    // The batches before the failure still come.
    assert_eq!(loader.by_ref().take(4).filter_map(Result::ok).count(), 4);
    let error = loader.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("cannot stand together"), "{error}");
    assert!(loader.next().is_none());

    let fatal = |_: Vec<Sample>, _: &mut ChaCha8Rng| -> Result<(), CollateError> {
        Err(std::io::Error::other("no space"))?
    };
    let mut loader = Loader::new(
        numbers(8),
        Sampler::sequential(8),
        LoaderOptions::new(4, 2),
        fatal,
    )
    .unwrap();
    let error = loader.next().unwrap().unwrap_err().to_string();
    assert!(
        error.contains("no space") && error.contains("sample 0 of epoch 0"),
        "{error}"
    );
}

#[test]
fn dropping_a_loader_joins_its_threads_at_once() {
    let (done, finished) = mpsc::channel();
    std::thread::spawn(move || {
        let slow = |sample: Sample, _: &mut ChaCha8Rng| {
            std::thread::sleep(Duration::from_millis(5));
            Ok(sample)
        };
        let options = LoaderOptions {
            ahead: 8,
            ..LoaderOptions::new(500, 2)
        };
        let sampler = Sampler::shuffled(5000, 0);
        let loader = Loader::with_prepare(numbers(5000), sampler, options, slow, |items, _| {
            Ok(items.len())
        })
        .unwrap();
        drop(loader);
        done.send(()).unwrap();
    });
    assert!(
        finished.recv_timeout(Duration::from_secs(2)).is_ok(),
        "the threads did not end"
    );
}

#[test]
fn no_more_batches_are_made_than_asked_for() {
    let (made, count) = mpsc::channel();
    let collate = move |items: Vec<Sample>, _: &mut ChaCha8Rng| {
        made.send(items.len())?;
        Ok(())
    };
    let options = LoaderOptions {
        ahead: 3,
        ..LoaderOptions::new(2, 2)
    };
    let prepare = |sample, _: &mut ChaCha8Rng| Ok(sample);
    let mut loader = Loader::with_prepare(
        numbers(100),
        Sampler::sequential(100),
        options,
        prepare,
        collate,
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count.try_iter().count(), 3);
    loader.next().unwrap().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(count.try_iter().count(), 1);
}

#[test]
fn waiting_is_reported() {
    let slow = |sample: Sample, _: &mut ChaCha8Rng| {
        std::thread::sleep(Duration::from_millis(10));
        Ok(sample)
    };
    let options = LoaderOptions::new(2, 1);
    let mut loader =
        Loader::with_prepare(numbers(6), Sampler::sequential(6), options, slow, |_, _| {
            Ok(())
        })
        .unwrap();
    loader.by_ref().for_each(|batch| batch.unwrap());
    let report = loader.report();
    assert!(report.first_wait >= Duration::from_millis(15), "{report:?}");
    assert!(report.waited >= Duration::from_millis(20), "{report:?}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let open = |len, sampler, options: LoaderOptions| {
        Loader::new(numbers(len), sampler, options, |_, _| Ok(()))
            .err()
            .unwrap()
            .to_string()
    };
    let eight = || Sampler::shuffled(8, 0);
    assert!(open(8, eight(), LoaderOptions::new(0, 1)).contains("batch_size 0"));
    assert!(open(8, eight(), LoaderOptions::new(9, 1)).contains("does not fill a batch of 9"));
    assert!(open(9, eight(), LoaderOptions::new(4, 1)).contains("was the data changed"));
}

#[test]
fn absurd_numbers_of_samples_threads_and_batches_ahead_are_refused() {
    for (batch_size, workers, ahead) in [(2, 1 << 40, 1), (2, 1, 1 << 40), (1 << 40, 1, 1)] {
        let options = LoaderOptions {
            ahead,
            ..LoaderOptions::new(batch_size, workers)
        };
        let loader = Loader::new(numbers(8), Sampler::sequential(8), options, |samples, _| {
            Ok(samples.len())
        });
        let message = loader.err().unwrap().to_string();
        assert!(message.contains("1099511627776"), "{message}");
    }
}
