//! What a method may use while it embeds a micro-batch.

use super::alone::alone;
use super::remainder;
use super::replay::Replay;
use super::seeds::{BlockSeeds, mix};
use crate::error::{Result, TrainError};
use crate::parameters::parameters;
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::AutodiffBackend};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// One walk through a model: where it computes, its random numbers, and how its blocks are run.
pub struct Pass<B: AutodiffBackend> {
    device: B::Device,
    seed: u64,
    rng: ChaCha8Rng,
    stacks: u64,
    replay: Option<Replay<B>>,
    /// Whether batches are looked at for products that the backend gets wrong.
    guarded: bool,
    refused: Option<TrainError>,
}

impl<B: AutodiffBackend> Pass<B> {
    /// A pass in which blocks are run as they are. Draws depend on `seed` alone.
    pub fn plain(device: &B::Device, seed: u64) -> Self {
        {
            let _alone = alone();
            B::seed(device, seed);
        }
        Self {
            device: device.clone(),
            seed,
            rng: ChaCha8Rng::seed_from_u64(seed),
            stacks: 0,
            replay: None,
            guarded: false,
            refused: None,
        }
    }

    /// A pass in which blocks are replayed on the way back.
    pub fn replayed(device: &B::Device, seed: u64) -> Self {
        Self {
            replay: Some(Replay::default()),
            ..Self::plain(device, seed)
        }
    }

    /// The same pass, in which a batch whose gradients the backend would get wrong is noticed.
    pub(crate) fn guarded(self, guarded: bool) -> Self {
        Self { guarded, ..self }
    }

    /// # Errors
    ///
    /// What was noticed.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.refused.take().map_or(Ok(()), Err)
    }

    /// Where tensors belong.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// Random numbers on the host, such as which patches are kept.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// Runs a stack of residual blocks, with block replay where the recipe asks for it. The device is seeded before
    /// each block, so that a block that is run again draws the same: dropout inside blocks is exact.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, seq, width]`
    /// - output: `[batch, seq, width]`
    pub fn blocks<M: AutodiffModule<B> + 'static>(
        &mut self,
        blocks: &[M],
        x: Tensor<B, 3>,
        forward: impl Fn(&M, Tensor<B, 3>) -> Tensor<B, 3> + 'static,
    ) -> Tensor<B, 3> {
        let [samples, tokens, _] = x.dims();
        if self.guarded && self.refused.is_none() {
            // Projections behind the blocks sum over samples alone.
            let checked =
                remainder::check(samples, tokens).and_then(|()| remainder::check(samples, 1));
            self.refused = checked.err();
        }
        let seeds = BlockSeeds::new(&self.device, mix(self.seed, self.stacks));
        self.stacks += 1;
        match &mut self.replay {
            Some(replay) if trainable(blocks) => replay.run(blocks, x, seeds, forward),
            _ => blocks.iter().enumerate().fold(x, |x, (index, block)| {
                let _alone = seeds.before::<B>(index);
                forward(block, x)
            }),
        }
    }

    /// The replay that this pass recorded.
    pub(crate) fn into_replay(self) -> Replay<B> {
        self.replay.unwrap_or_default()
    }
}

/// Frozen blocks keep nothing for a backward pass, so there is nothing to save.
fn trainable<B: AutodiffBackend, M: AutodiffModule<B>>(blocks: &[M]) -> bool {
    blocks
        .iter()
        .any(|block| parameters(block).iter().any(|p| p.trainable))
}
