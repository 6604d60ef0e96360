//! Seeds of whatever is drawn at random inside a model.

use super::alone::alone;
use burn::tensor::backend::AutodiffBackend;
use parking_lot::ReentrantMutexGuard;

/// Seeds of the blocks of one stack.
pub(crate) struct BlockSeeds<D> {
    device: D,
    stack: u64,
}

impl<D: Clone> BlockSeeds<D> {
    /// Of the stack that has this seed.
    pub fn new(device: &D, stack: u64) -> Self {
        Self {
            device: device.clone(),
            stack,
        }
    }

    /// Seeds the device for a block. While the result lives, no other thread's block is run: replicas on threads would
    /// take each other's draws.
    pub fn before<B>(&self, index: usize) -> ReentrantMutexGuard<'static, ()>
    where
        B: AutodiffBackend<Device = D>,
    {
        let guard = alone();
        B::seed(&self.device, mix(self.stack, index as u64));
        guard
    }
}

/// A seed of its own for each `index` (splitmix64).
pub(crate) fn mix(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
