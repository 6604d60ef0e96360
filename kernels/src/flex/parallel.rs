//! Work on slices over all cores, with the vectors that the CPU has.

use rayon::prelude::*;

/// Floats that are worth a task of their own.
const TASK: usize = 1 << 14;

/// Runs a loop compiled for the widest vectors of this CPU. What it calls must be inlined into it.
#[inline(always)]
pub(super) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

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
