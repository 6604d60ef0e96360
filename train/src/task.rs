//! A training method, as the engine sees it.

use crate::error::BoxError;
use crate::replay::Replay;
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::AutodiffBackend};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// One training method: how a batch is embedded, and what the loss of the embeddings is.
///
/// The cut between the two is what lets the engine enlarge the batch beyond one graph (gradient cache) and
/// beyond one device (all-gather) without the method's knowledge: [`embed`](Self::embed) sees a
/// micro-batch, [`loss`](Self::loss) the embeddings of all of them.
pub trait Task<B: AutodiffBackend> {
    /// The model that is trained.
    type Model: AutodiffModule<B>;
    /// A batch in host memory, made by the loader's threads.
    type Batch: Send + 'static;

    /// Embeds a micro-batch. It may be called twice for the same batch and must then do the same, random
    /// draws included: the pass and the device are seeded alike before both calls.
    fn embed(&self, model: &Self::Model, batch: &Self::Batch, pass: &mut Pass<B>) -> Embedded<B>;

    /// Loss of the embeddings of the whole batch, which come in the order in which
    /// [`embed`](Self::embed) gave them. Parameters that only appear here, such as the logit scale, may be
    /// read from the model. Not called when there are no embeddings.
    fn loss(&self, model: &Self::Model, embeddings: Vec<Tensor<B, 2>>) -> Losses<B>;

    /// Samples in a batch.
    fn samples(&self, batch: &Self::Batch) -> usize;

    /// Writes the model into `dir` in a form that other programs load. Called for every checkpoint.
    ///
    /// # Errors
    ///
    /// Whatever the writer meets; the checkpoint is then not kept.
    fn export(&self, _model: &Self::Model, _dir: &Path) -> Result<(), BoxError> {
        Ok(())
    }
}

/// What a micro-batch contributes.
pub struct Embedded<B: AutodiffBackend> {
    /// Embeddings that the loss of the whole batch is made of, such as image and text; one row per sample.
    pub embeddings: Vec<Tensor<B, 2>>,
    /// Losses that are means over samples or tokens, such as a captioner's.
    pub means: Vec<MeanLoss<B>>,
}

/// A loss `weight · Σ sum / Σ count`, both sums over the micro-batches of all replicas.
pub struct MeanLoss<B: AutodiffBackend> {
    /// Name in the log.
    pub name: &'static str,
    /// Sum over the micro-batch, `[1]`.
    pub sum: Tensor<B, 1>,
    /// Number of summands.
    pub count: usize,
    /// Weight in the total.
    pub weight: f64,
}

/// A loss and what it is made of.
pub struct Losses<B: AutodiffBackend> {
    /// What is minimised, `[1]`.
    pub total: Tensor<B, 1>,
    /// Parts for the log, each `[1]`.
    pub parts: Vec<(String, Tensor<B, 1>)>,
}

/// What a method may use while it embeds.
pub struct Pass<B: AutodiffBackend> {
    device: B::Device,
    rng: ChaCha8Rng,
    replay: Option<Replay<B>>,
}

impl<B: AutodiffBackend> Pass<B> {
    /// A pass in which blocks are run as they are. Draws depend on `seed` alone.
    pub fn plain(device: &B::Device, seed: u64) -> Self {
        B::seed(device, seed);
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self {
            device: device.clone(),
            rng,
            replay: None,
        }
    }

    /// A pass in which blocks are replayed on the way back.
    pub fn replayed(device: &B::Device, seed: u64) -> Self {
        Self {
            replay: Some(Replay::default()),
            ..Self::plain(device, seed)
        }
    }

    /// Where tensors belong.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// Random numbers on the host, such as which patches are kept.
    pub fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.rng
    }

    /// Runs a stack of residual blocks, with block replay where the recipe asks for it.
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
        match &mut self.replay {
            Some(replay) if trainable(blocks) => replay.run(blocks, x, forward),
            _ => blocks.iter().fold(x, |x, block| forward(block, x)),
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
        .any(|b| crate::parameters::parameters(b).iter().any(|p| p.trainable))
}
