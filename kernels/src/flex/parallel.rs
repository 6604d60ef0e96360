//! Work on slices over all cores, with the vectors that the CPU has.

use rayon::prelude::*;
use std::ops::Range;

/// Floats that are worth a task of their own.
pub(super) const TASK: usize = 1 << 14;

/// Runs a block compiled for the widest vectors of this CPU. What is not inlined into it is compiled for the oldest CPU: functions and
/// closures that it calls must be `#[inline(always)]`, and so is the closure that the block becomes.
macro_rules! vectorized {
    ($block:expr) => {{
        let once = crate::flex::parallel::Once;
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                let _once = once;
                $block
            },
        )
    }};
}
pub(super) use vectorized;

/// Makes a closure that takes it one that can be called once only. Others are called through a function around them, which is not
/// inlined.
pub(super) struct Once;

/// Fills `out`, whose parts of `part` floats belong together: `fill` gets a stretch of whole parts and the number of the first.
pub(super) fn fill(out: &mut [f32], part: usize, fill: impl Fn(&mut [f32], usize) + Sync) {
    let part = part.max(1);
    let parts = TASK.div_ceil(part);
    if out.len() <= 2 * TASK || rayon::current_num_threads() == 1 {
        return fill(out, 0);
    }
    let stretches = out.par_chunks_mut(parts * part).enumerate();
    stretches.for_each(|(index, stretch)| fill(stretch, index * parts));
}

/// Fills `out` and `beside` alike, of which each part of `out` has its own `each` floats.
pub(super) fn fill_beside(
    (out, part): (&mut [f32], usize),
    (beside, each): (&mut [f32], usize),
    fill: impl Fn(&mut [f32], &mut [f32], usize) + Sync,
) {
    let part = part.max(1);
    let parts = TASK.div_ceil(part);
    if out.len() <= 2 * TASK || rayon::current_num_threads() == 1 {
        return fill(out, beside, 0);
    }
    let stretches = out.par_chunks_mut(parts * part);
    let stretches = stretches.zip(beside.par_chunks_mut(parts * each));
    let stretches = stretches.enumerate();
    stretches.for_each(|(index, (out, beside))| fill(out, beside, index * parts));
}

/// A sum of `len` floats over rows. `add` adds a group of them to its share; shares are added in the order of the rows, so that
/// the sum depends on no number of threads.
pub(super) fn sum_over(
    rows: usize,
    group: usize,
    len: usize,
    add: impl Fn(&mut [f32], Range<usize>) + Sync,
) -> Vec<f32> {
    let groups = (0..rows.div_ceil(group)).into_par_iter();
    let shares: Vec<Vec<f32>> = groups
        .map(|index| {
            let mut share = vec![0f32; len];
            let first = index * group;
            add(&mut share, first..rows.min(first + group));
            share
        })
        .collect();
    let mut total = vec![0f32; len];
    for share in shares {
        total.iter_mut().zip(&share).for_each(|(a, b)| *a += b);
    }
    total
}
