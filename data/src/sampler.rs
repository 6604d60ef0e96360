//! The order in which samples are visited: a pure function of (seed, epoch, position).

use std::ops::Range;

use rand::Rng;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::permutation::Permutation;

/// Decides which sample comes when, for one of `world` processes.
///
/// An epoch is a sequence of source indices; process `rank` visits the places `rank`, `rank +
/// world`, ... of it. Any place of any epoch is computed directly, so a run is continued by putting
/// back two integers ([`Sampler::at`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    seed: u64,
    /// Lengths of the parts of the source; one for a source that is not a mixture.
    lens: Vec<usize>,
    draw: Draw,
    order: Order,
    rank: usize,
    world: usize,
    keep_tail: bool,
    /// The epoch of this process is cut to a multiple of it.
    #[serde(default = "one")]
    whole: usize,
    epoch: u64,
    position: usize,
}

fn one() -> usize {
    1
}

/// Samples of an epoch; whole numbers up to here are exact as f64.
const LONGEST_EPOCH: f64 = (1u64 << 53) as f64;

/// The order inside an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Order {
    /// As in the source.
    Sequential,
    /// A new random permutation each epoch.
    Shuffled,
    /// A random order that reads disks kindly: the source is cut into blocks of consecutive samples
    /// (about a shard each), the blocks are shuffled, and samples are shuffled inside windows of
    /// several blocks. It mixes as a shard shuffle followed by a shuffle buffer of `block * window`
    /// samples does.
    Windowed {
        /// Samples in a block.
        block: usize,
        /// Blocks in a window.
        window: usize,
    },
}

/// How many times each sample is visited in an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Draw {
    /// Every sample once.
    Once,
    /// Part `i` of a mixture is visited `factors[i]` times; of a fractional rest, another random
    /// subset each epoch.
    Upsampled {
        /// One factor for each part.
        factors: Vec<f64>,
    },
    /// Drawn with replacement, as open_clip's `--dataset-resampled` does; `order` has no meaning
    /// then.
    Resampled {
        /// Relative chance of a sample of each part; open_clip's upsampling factors. All 1: every
        /// sample of the mixture is equally likely.
        factors: Vec<f64>,
        /// Samples in an epoch.
        samples: usize,
        /// So many consecutive samples come from the same part. 1 mixes freely; the global batch
        /// size makes batches of one part each, as LLM2CLIP trains its vision towers.
        run: usize,
    },
    /// Every sample at most once, in groups of one part: each part is cut into groups of `batch`
    /// samples in its own order, and the groups of all parts are shuffled among each other, so that
    /// large parts come up more often. What does not fill a group is left out, in a shuffled order
    /// other samples each epoch. With the global batch size this is how LLM2CLIP trains its language
    /// model: every batch holds one data set, so that negatives are hard.
    Grouped {
        /// Samples in a group, over all processes.
        batch: usize,
    },
}

/// What a random stream is for. Streams of different purpose never share numbers.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Order = 1,
    Window = 2,
    Part = 3,
    DrawPart = 4,
    DrawItem = 5,
    Replacement = 6,
    Prepare = 7,
    Collate = 8,
    Group = 9,
}

/// The generator for one purpose at one place of one epoch. The four numbers are the key itself, so
/// that no two places can meet in the same stream.
pub(crate) fn stream(seed: u64, epoch: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (bytes, word) in key
        .chunks_exact_mut(8)
        .zip([seed, epoch, purpose as u64, index])
    {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

impl Sampler {
    /// For training: `len` samples, shuffled anew each epoch, uneven tails dropped.
    pub fn shuffled(len: usize, seed: u64) -> Self {
        Self {
            seed,
            lens: vec![len],
            draw: Draw::Once,
            order: Order::Shuffled,
            rank: 0,
            world: 1,
            keep_tail: false,
            whole: 1,
            epoch: 0,
            position: 0,
        }
    }

    /// For evaluation: `len` samples in their order, to the last one.
    pub fn sequential(len: usize) -> Self {
        Self {
            order: Order::Sequential,
            keep_tail: true,
            ..Self::shuffled(len, 0)
        }
    }

    /// For training on a [`Mixture`](crate::Mixture) whose parts have these lengths.
    pub fn mixed(lens: Vec<usize>, draw: Draw, seed: u64) -> Result<Self, DataError> {
        let factors = match &draw {
            Draw::Once | Draw::Grouped { .. } => None,
            Draw::Upsampled { factors } | Draw::Resampled { factors, .. } => Some(factors),
        };
        if let Some(factors) = factors {
            if factors.len() != lens.len() {
                let (n, m) = (factors.len(), lens.len());
                return Err(DataError::Config(format!(
                    "{n} factors were given for {m} sources; give one each"
                )));
            }
            if let Some(bad) = factors.iter().find(|f| !(f.is_finite() && **f >= 0.0)) {
                return Err(DataError::Config(format!(
                    "a source's factor is {bad}; it must be 0 or more"
                )));
            }
        }
        let samples = match &draw {
            Draw::Resampled { samples, .. } => *samples as f64,
            Draw::Upsampled { factors } => {
                let parts = lens.iter().zip(factors);
                parts.map(|(len, factor)| *len as f64 * factor).sum()
            }
            Draw::Once | Draw::Grouped { .. } => 0.0,
        };
        if samples > LONGEST_EPOCH {
            return Err(DataError::Config(format!(
                "an epoch of {samples:e} samples is beyond any run; lower the factors, or `samples`"
            )));
        }
        if let Draw::Resampled { factors, run, .. } = &draw {
            if *run == 0 {
                return Err(DataError::Config(
                    "`run` is 0; use 1 to mix sources freely".into(),
                ));
            }
            if lens
                .iter()
                .zip(factors)
                .all(|(len, factor)| *len as f64 * factor == 0.0)
            {
                return Err(DataError::Config(
                    "no source has both samples and a factor above 0".into(),
                ));
            }
        }
        if let Draw::Grouped { batch } = &draw {
            if *batch == 0 {
                return Err(DataError::Config(
                    "`batch` of grouped sources is 0; use the global batch size".into(),
                ));
            }
            if lens.iter().all(|len| len < batch) {
                let longest = lens.iter().max().copied().unwrap_or(0);
                return Err(DataError::Config(format!(
                    "no source fills a group of {batch} samples, the largest has {longest}; use a \
                     smaller batch"
                )));
            }
        }
        Ok(Self {
            lens,
            draw,
            ..Self::shuffled(0, seed)
        })
    }

    /// Sets the order inside an epoch.
    pub fn with_order(mut self, order: Order) -> Result<Self, DataError> {
        if let Order::Windowed { block: 0, .. } | Order::Windowed { window: 0, .. } = order {
            return Err(DataError::Config(
                "a windowed order needs a block and a window of 1 or more".into(),
            ));
        }
        self.order = order;
        Ok(self)
    }

    /// Makes this the sampler of process `rank` among `world`.
    pub fn sharded(mut self, rank: usize, world: usize) -> Result<Self, DataError> {
        if rank >= world {
            return Err(DataError::Config(format!(
                "rank {rank} of {world} processes; ranks count from 0"
            )));
        }
        if let Draw::Grouped { batch } = self.draw
            && !batch.is_multiple_of(world)
        {
            return Err(DataError::Config(format!(
                "groups of {batch} samples do not spread evenly over {world} processes; `batch` is \
                 the batch of all processes together"
            )));
        }
        (self.rank, self.world) = (rank, world);
        Ok(self)
    }

    /// Whether the end of an epoch that does not fill a batch, or not all processes, is visited.
    pub fn keep_tail(mut self, keep: bool) -> Self {
        self.keep_tail = keep;
        self
    }

    /// Cuts the epoch of this process to a multiple of `n` samples: what would not fill another `n`
    /// is left out, whether tails are kept or not. A loader whose caller takes several batches for a
    /// step then never has to be left in the middle of a step at the end of an epoch.
    ///
    /// 0 and 1 cut nothing.
    pub fn whole(mut self, n: usize) -> Self {
        self.whole = n.max(1);
        self
    }

    /// Puts the sampler at a place of an epoch.
    pub fn at(mut self, epoch: u64, position: usize) -> Self {
        (self.epoch, self.position) = (epoch, position);
        self
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many samples of the current epoch this process has visited.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// This process's rank and the number of processes.
    pub fn shard(&self) -> (usize, usize) {
        (self.rank, self.world)
    }

    /// True if tails are visited, see [`Sampler::keep_tail`].
    pub fn keeps_tail(&self) -> bool {
        self.keep_tail
    }

    /// Number of samples in the source that the indices refer to.
    pub fn source_len(&self) -> usize {
        self.lens.iter().sum()
    }

    /// Samples in an epoch, over all processes.
    pub fn epoch_len(&self) -> usize {
        match &self.draw {
            Draw::Once => self.source_len(),
            Draw::Upsampled { .. } => self.visits().sum(),
            Draw::Resampled { samples, .. } => *samples,
            Draw::Grouped { batch } => self.groups(*batch).sum::<usize>() * batch,
        }
    }

    /// Samples in an epoch for this process.
    pub fn len(&self) -> usize {
        let (samples, world) = (self.epoch_len(), self.world);
        let len = if self.keep_tail {
            (samples + world - 1 - self.rank) / world
        } else {
            samples / world
        };
        len - len % self.whole
    }

    /// True if this process has nothing to visit.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The source index at `position` of `epoch` for this process.
    ///
    /// # Panics
    ///
    /// Panics if `position` is not below [`Sampler::len`].
    pub fn index(&self, epoch: u64, position: usize) -> usize {
        assert!(
            position < self.len(),
            "position {position} of an epoch of {}",
            self.len()
        );
        let place = self.place(position);
        match &self.draw {
            Draw::Once => self.ordered(epoch, 0, place, self.epoch_len()),
            Draw::Upsampled { .. } => {
                self.upsampled(epoch, self.ordered(epoch, 0, place, self.epoch_len()))
            }
            Draw::Resampled { factors, run, .. } => self.resampled(epoch, place, factors, *run),
            Draw::Grouped { batch } => self.grouped(epoch, place, *batch),
        }
    }

    /// What to visit instead if the sample at `position` cannot be used: a uniform draw from the
    /// whole source for each `attempt`, or from the sample's own part where consecutive samples are
    /// of one part. Far from the samples around it, so that a batch does not get the same image
    /// twice.
    pub fn replacement(&self, epoch: u64, position: usize, attempt: u64) -> usize {
        let mut rng = self.stream(epoch, Purpose::Replacement, self.place(position) as u64);
        rng.set_stream(attempt);
        let range = match self.draw {
            Draw::Grouped { .. } | Draw::Resampled { run: 2.., .. } => {
                self.part_around(self.index(epoch, position))
            }
            _ => 0..self.source_len(),
        };
        rng.random_range(range)
    }

    /// The samples of the part that a sample belongs to.
    fn part_around(&self, index: usize) -> Range<usize> {
        let mut start = 0;
        for len in &self.lens {
            if index < start + len {
                return start..start + len;
            }
            start += len;
        }
        unreachable!("indices are below the number of samples")
    }

    /// Place of this process's `position` in the epoch of all processes.
    pub(crate) fn place(&self, position: usize) -> usize {
        position * self.world + self.rank
    }

    pub(crate) fn stream(&self, epoch: u64, purpose: Purpose, index: u64) -> ChaCha8Rng {
        stream(self.seed, epoch, purpose, index)
    }

    fn permutation(&self, epoch: u64, purpose: Purpose, index: usize, len: usize) -> Permutation {
        Permutation::new(len as u64, &mut self.stream(epoch, purpose, index as u64))
    }

    /// What comes at `place` of `len` things in this order. `part` tells apart several such lists;
    /// it is 0 where there is one for all parts.
    fn ordered(&self, epoch: u64, part: usize, place: usize, len: usize) -> usize {
        match self.order {
            Order::Sequential => place,
            Order::Shuffled => self
                .permutation(epoch, Purpose::Order, part, len)
                .get(place as u64) as usize,
            Order::Windowed { block, window } => {
                self.windowed(epoch, part, place, len, block, window)
            }
        }
    }

    /// The blocks are all of `block` samples but the last one, which makes the windows uneven: all
    /// that follow it in the shuffled order begin `missing` earlier.
    fn windowed(
        &self,
        epoch: u64,
        part: usize,
        place: usize,
        len: usize,
        block: usize,
        window: usize,
    ) -> usize {
        let blocks = len.div_ceil(block);
        let missing = blocks * block - len;
        let order = self.permutation(epoch, Purpose::Order, part, blocks);
        let short = order.inverse(blocks as u64 - 1) as usize;
        let start = |w: usize| {
            let first = (w * window).min(blocks);
            first * block - if short < first { missing } else { 0 }
        };
        let mut w = place / window.saturating_mul(block);
        if start(w + 1) <= place {
            w += 1;
        }
        // Far fewer than 2³² windows: the parts do not meet.
        let number = part << 32 | w;
        let inside = self.permutation(epoch, Purpose::Window, number, start(w + 1) - start(w));
        let mut offset = inside.get((place - start(w)) as u64) as usize + w * window * block;
        if short >= w * window && offset >= (short + 1) * block - missing {
            offset += missing;
        }
        order.get((offset / block) as u64) as usize * block + offset % block
    }

    /// How often the parts are visited in an epoch, in samples.
    fn visits(&self) -> impl Iterator<Item = usize> + '_ {
        let Draw::Upsampled { factors } = &self.draw else {
            unreachable!("only upsampled parts have visits")
        };
        self.lens
            .iter()
            .zip(factors)
            .map(|(len, factor)| (*len as f64 * factor).round() as usize)
    }

    /// The sample behind visit `visit` of an epoch in which parts are repeated.
    fn upsampled(&self, epoch: u64, mut visit: usize) -> usize {
        let mut start = 0;
        for (part, (visits, len)) in self.visits().zip(&self.lens).enumerate() {
            if visit < visits {
                let whole_rounds = visits / len * len;
                if visit < whole_rounds {
                    return start + visit % len;
                }
                let rest = self.permutation(epoch, Purpose::Part, part, *len);
                return start + rest.get((visit - whole_rounds) as u64) as usize;
            }
            visit -= visits;
            start += len;
        }
        unreachable!("visits were counted by epoch_len")
    }

    /// How many groups each part fills.
    fn groups(&self, batch: usize) -> impl Iterator<Item = usize> + '_ {
        self.lens.iter().map(move |len| len / batch)
    }

    fn grouped(&self, epoch: u64, place: usize, batch: usize) -> usize {
        let groups: usize = self.groups(batch).sum();
        let mut group = match self.order {
            Order::Sequential => place / batch,
            _ => self
                .permutation(epoch, Purpose::Group, 0, groups)
                .get((place / batch) as u64) as usize,
        };
        let mut start = 0;
        for (part, (groups, len)) in self.groups(batch).zip(&self.lens).enumerate() {
            if group < groups {
                let inside = group * batch + place % batch;
                return start + self.ordered(epoch, part, inside, *len);
            }
            group -= groups;
            start += len;
        }
        unreachable!("groups were counted by epoch_len")
    }

    fn resampled(&self, epoch: u64, place: usize, factors: &[f64], run: usize) -> usize {
        let weights = || {
            self.lens
                .iter()
                .zip(factors)
                .map(|(len, factor)| *len as f64 * factor)
        };
        let total: f64 = weights().sum();
        let mut at = self
            .stream(epoch, Purpose::DrawPart, (place / run) as u64)
            .random::<f64>()
            * total;
        let mut chosen = None;
        for (part, weight) in weights().enumerate().filter(|(_, weight)| *weight > 0.0) {
            chosen = Some(part);
            at -= weight;
            if at < 0.0 {
                break;
            }
        }
        let part = chosen.expect("`mixed` checked that a part has weight");
        let item = self
            .stream(epoch, Purpose::DrawItem, place as u64)
            .random_range(0..self.lens[part]);
        self.lens[..part].iter().sum::<usize>() + item
    }
}

impl Iterator for Sampler {
    type Item = usize;

    /// The next index of the current epoch; `None` at its end.
    fn next(&mut self) -> Option<usize> {
        let index = (self.position < self.len()).then(|| self.index(self.epoch, self.position))?;
        self.position += 1;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn epochs_and_windows_beyond_all_numbers_are_refused_or_whole() {
        let factors = vec![1e300];
        for draw in [
            Draw::Upsampled {
                factors: factors.clone(),
            },
            Draw::Resampled {
                factors,
                samples: usize::MAX,
                run: 1,
            },
        ] {
            let message = Sampler::mixed(vec![9], draw, 0).unwrap_err().to_string();
            assert!(message.contains("beyond any run"), "{message}");
        }
        let order = Order::Windowed {
            block: 1 << 62,
            window: 1 << 62,
        };
        let whole = Sampler::shuffled(9, 0).with_order(order).unwrap();
        assert_eq!(sorted(whole), (0..9).collect::<Vec<_>>());
    }

    fn sorted(indices: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut indices: Vec<_> = indices.into_iter().collect();
        indices.sort();
        indices
    }

    fn any_order() -> impl Strategy<Value = Order> {
        prop_oneof![
            Just(Order::Sequential),
            Just(Order::Shuffled),
            (1usize..20, 1usize..6).prop_map(|(block, window)| Order::Windowed { block, window }),
        ]
    }

    proptest! {
        #[test]
        fn the_processes_partition_an_epoch(
            len in 0usize..300, seed: u64, epoch in 0u64..5, world in 1usize..6, order in any_order(),
        ) {
            let whole = Sampler::shuffled(len, seed).with_order(order).unwrap().at(epoch, 0);
            let shards = |keep: bool| (0..world).flat_map(move |rank| {
                let sampler = Sampler::shuffled(len, seed).with_order(order).unwrap();
                sampler.keep_tail(keep).sharded(rank, world).unwrap().at(epoch, 0)
            });
            prop_assert_eq!(sorted(whole.clone().keep_tail(true)), (0..len).collect::<Vec<_>>());
            prop_assert_eq!(sorted(shards(true)), (0..len).collect::<Vec<_>>());
            let even = len / world * world;
            prop_assert_eq!(sorted(shards(false)), sorted(whole.take(even)));
        }

        #[test]
        fn resuming_anywhere_continues_the_epoch(len in 1usize..200, seed: u64, epoch: u64, at in 0.0..1.0f64) {
            let sampler = Sampler::shuffled(len, seed).at(epoch, 0);
            let position = (at * len as f64) as usize;
            let mut first = sampler.clone();
            let head: Vec<_> = first.by_ref().take(position).collect();
            let saved = serde_json::to_string(&first).unwrap();
            let resumed: Sampler = serde_json::from_str(&saved).unwrap();
            let joined: Vec<_> = head.into_iter().chain(resumed).collect();
            prop_assert_eq!(joined, sampler.collect::<Vec<_>>());
        }

        #[test]
        fn upsampled_parts_are_visited_by_their_factors(
            lens in prop::collection::vec(0usize..30, 1..4), seed: u64, epoch in 0u64..3,
        ) {
            let factors: Vec<f64> = (0..lens.len()).map(|i| [2.0, 0.5, 1.0][i]).collect();
            let draw = Draw::Upsampled { factors: factors.clone() };
            let sampler = Sampler::mixed(lens.clone(), draw, seed).unwrap().at(epoch, 0);
            let mut visits = vec![0usize; lens.iter().sum()];
            sampler.for_each(|index| visits[index] += 1);
            let mut start = 0;
            for (len, factor) in lens.iter().zip(factors) {
                let of_part = &visits[start..start + len];
                prop_assert_eq!(of_part.iter().sum::<usize>(), (*len as f64 * factor).round() as usize);
                let (low, high) = (factor.floor() as usize, factor.ceil() as usize);
                prop_assert!(of_part.iter().all(|n| (low..=high).contains(n)));
                start += len;
            }
        }
    }

    proptest! {
        #[test]
        fn groups_are_of_one_part_and_visit_a_sample_at_most_once(
            lens in prop::collection::vec(0usize..40, 1..5), batch in 1usize..9, seed: u64, epoch in 0u64..4,
            world in 1usize..4, order in any_order(),
        ) {
            let batch = batch * world;
            let draw = Draw::Grouped { batch };
            let Ok(sampler) = Sampler::mixed(lens.clone(), draw, seed) else {
                prop_assert!(lens.iter().all(|len| *len < batch));
                return Ok(());
            };
            let sampler = sampler.with_order(order).unwrap();
            let shards: Vec<_> = (0..world)
                .map(|rank| sampler.clone().sharded(rank, world).unwrap().at(epoch, 0).collect::<Vec<_>>())
                .collect();
            let all: Vec<usize> = (0..shards[0].len()).flat_map(|i| shards.iter().map(move |s| s[i])).collect();
            prop_assert_eq!(&all, &sampler.clone().at(epoch, 0).collect::<Vec<_>>());
            let part = |index: usize| {
                let mut ends = lens.iter().scan(0, |end, len| { *end += len; Some(*end) });
                ends.position(|end| index < end).unwrap()
            };
            let mut groups = vec![0; lens.len()];
            for group in all.chunks(batch) {
                prop_assert_eq!(group.len(), batch);
                prop_assert!(group.iter().all(|index| part(*index) == part(group[0])));
                groups[part(group[0])] += 1;
            }
            prop_assert_eq!(groups, lens.iter().map(|len| len / batch).collect::<Vec<_>>());
            let mut once = sorted(all.iter().copied());
            once.dedup();
            prop_assert_eq!(once.len(), all.len());
            // Any place is found without those before it.
            let at = all.len() / 2;
            prop_assert_eq!(sampler.clone().at(epoch, at).next(), Some(all[at]));
        }

        #[test]
        fn a_whole_epoch_is_a_multiple_and_the_beginning_of_the_uncut_one(
            len in 0usize..200, n in 0usize..12, world in 1usize..4, keep: bool,
        ) {
            let uncut = Sampler::shuffled(len, 3).keep_tail(keep).sharded(world - 1, world).unwrap();
            let whole = uncut.clone().whole(n);
            prop_assert_eq!(whole.len(), uncut.len() / n.max(1) * n.max(1));
            let uncut: Vec<_> = uncut.collect();
            prop_assert_eq!(whole.clone().collect::<Vec<_>>(), &uncut[..whole.len()]);
        }
    }

    #[test]
    fn groups_of_large_and_small_parts_are_mixed_anew_each_epoch() {
        let sampler = Sampler::mixed(vec![600, 0, 205], Draw::Grouped { batch: 10 }, 4).unwrap();
        let parts = |epoch| {
            let indices = sampler.clone().at(epoch, 0).step_by(10);
            indices
                .map(|index| usize::from(index >= 600))
                .collect::<Vec<_>>()
        };
        assert_eq!(parts(0).len(), 80);
        assert_ne!(parts(0), parts(1));
        // A quarter of the groups, in both halves of an epoch.
        let small = parts(0)[..40].iter().sum::<usize>();
        assert!((4..=16).contains(&small), "{small}");
        // The five samples that fill no group are not always the same ones.
        let missed = |epoch| {
            let seen = sorted(sampler.clone().at(epoch, 0));
            (600..805)
                .filter(|i| seen.binary_search(i).is_err())
                .collect::<Vec<_>>()
        };
        assert_eq!(missed(0).len(), 5);
        assert_ne!(missed(0), missed(1));
    }

    #[test]
    fn a_replacement_in_a_group_is_of_the_same_part() {
        let sampler = Sampler::mixed(vec![50, 50], Draw::Grouped { batch: 5 }, 4).unwrap();
        for position in 0..100 {
            let first = sampler.index(0, position) < 50;
            for attempt in 1..4 {
                assert_eq!(sampler.replacement(0, position, attempt) < 50, first);
            }
        }
    }

    #[test]
    fn draws_are_named_in_recipes() {
        let read = |json: &str| serde_json::from_str::<Draw>(json).unwrap();
        assert_eq!(
            read(r#"{"kind": "grouped", "batch": 8}"#),
            Draw::Grouped { batch: 8 }
        );
        assert_eq!(read(r#"{"kind": "once"}"#), Draw::Once);
    }

    #[test]
    fn a_sampler_saved_before_epochs_could_be_cut_is_read() {
        let sampler = Sampler::shuffled(10, 7).at(2, 4);
        let mut saved = serde_json::to_value(&sampler).unwrap();
        saved.as_object_mut().unwrap().remove("whole").unwrap();
        assert_eq!(serde_json::from_value::<Sampler>(saved).unwrap(), sampler);
    }

    #[test]
    fn epochs_and_seeds_have_different_orders() {
        let order = |seed, epoch| Sampler::shuffled(50, seed).at(epoch, 0).collect::<Vec<_>>();
        assert_eq!(order(1, 0), order(1, 0));
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
        assert_ne!(order(1, 0), (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_windowed_order_stays_in_few_blocks_at_a_time() {
        let order = Order::Windowed {
            block: 10,
            window: 3,
        };
        let sampler = Sampler::shuffled(995, 3).with_order(order).unwrap();
        let indices: Vec<_> = sampler.collect();
        // Thirty samples in a row touch the three blocks of a window, or of two where the short
        // block shifts it.
        for chunk in indices.chunks(30) {
            let mut blocks: Vec<_> = chunk.iter().map(|index| index / 10).collect();
            blocks.sort();
            blocks.dedup();
            assert!(blocks.len() <= 6, "{blocks:?}");
        }
        assert_ne!(
            indices[..10].iter().map(|i| i / 10).collect::<Vec<_>>(),
            vec![indices[0] / 10; 10]
        );
    }

    #[test]
    fn a_fractional_factor_takes_another_subset_each_epoch() {
        let draw = Draw::Upsampled { factors: vec![0.5] };
        let sampler = Sampler::mixed(vec![100], draw, 0).unwrap();
        assert_ne!(sorted(sampler.clone().at(0, 0)), sorted(sampler.at(1, 0)));
    }

    #[test]
    fn resampling_follows_the_weights_and_keeps_runs_together() {
        let draw = Draw::Resampled {
            factors: vec![1.0, 3.0, 0.0],
            samples: 8000,
            run: 4,
        };
        let sampler = Sampler::mixed(vec![100, 100, 100], draw, 5).unwrap();
        let parts: Vec<_> = sampler.map(|index| index / 100).collect();
        assert_eq!(parts.len(), 8000);
        assert!(
            parts
                .chunks(4)
                .all(|run| run.iter().all(|part| *part == run[0]))
        );
        let second = parts.iter().filter(|part| **part == 1).count() as f64 / 8000.0;
        assert!((second - 0.75).abs() < 0.04, "{second}");
        assert!(!parts.contains(&2));
    }

    #[test]
    fn contradictory_settings_are_refused() {
        assert!(Sampler::mixed(vec![1, 2], Draw::Upsampled { factors: vec![1.0] }, 0).is_err());
        assert!(
            Sampler::mixed(
                vec![1],
                Draw::Upsampled {
                    factors: vec![f64::NAN]
                },
                0
            )
            .is_err()
        );
        let nothing = Draw::Resampled {
            factors: vec![1.0, 0.0],
            samples: 10,
            run: 1,
        };
        assert!(Sampler::mixed(vec![0, 5], nothing, 0).is_err());
        let grouped = |batch| Sampler::mixed(vec![4, 5], Draw::Grouped { batch }, 0);
        let message = |sampler: Result<Sampler, DataError>| sampler.unwrap_err().to_string();
        assert!(message(grouped(6)).contains("group of 6 samples, the largest has 5"));
        assert!(message(grouped(0)).contains("`batch`"));
        let uneven = message(grouped(3).unwrap().sharded(0, 2));
        assert!(
            uneven.contains("groups of 3") && uneven.contains("2 processes"),
            "{uneven}"
        );
        assert!(Sampler::shuffled(3, 0).sharded(2, 2).is_err());
        assert!(
            Sampler::shuffled(3, 0)
                .with_order(Order::Windowed {
                    block: 0,
                    window: 1
                })
                .is_err()
        );
    }

    #[test]
    fn replacements_differ_by_attempt_and_stay_in_range() {
        let sampler = Sampler::shuffled(1000, 9);
        let draws: Vec<_> = (1..6)
            .map(|attempt| sampler.replacement(0, 3, attempt))
            .collect();
        assert_eq!(
            draws,
            (1..6)
                .map(|attempt| sampler.replacement(0, 3, attempt))
                .collect::<Vec<_>>()
        );
        assert!(draws.iter().all(|index| *index < 1000));
        assert!(draws.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
