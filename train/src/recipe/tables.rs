//! The tables of the engine itself.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[run]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Folder for checkpoints and logs, relative to the recipe.
    pub out: PathBuf,
    /// Seed of everything that is drawn at random.
    pub seed: u64,
    /// Length in epochs; give this or `steps`.
    pub epochs: Option<u64>,
    /// Length in optimizer steps; give this or `epochs`.
    pub steps: Option<u64>,
    /// Batches per step, joined exactly by the gradient cache: the contrastive loss sees all of them.
    pub accumulate: usize,
    /// Recomputes residual blocks on the way back instead of storing their insides.
    pub replay: bool,
    /// On several devices each answers for its own rows of the contrastive loss, and none takes the whole.
    pub local_loss: bool,
    /// On several devices each keeps the optimizer's moments of its share of the parameters only (ZeRO-1).
    pub shard_optimizer: bool,
    /// Range of `logit_scale`, enforced after each step. An empty list leaves it free.
    pub logit_scale_range: Vec<f64>,
    /// Decay of an exponential moving average of the weights. Absent: none.
    pub ema: Option<f64>,
    /// Steps whose loss or gradient is not finite are skipped; this many in one run end it.
    pub max_skipped: u64,
    /// Steps between reads of the loss. With 1, a step that is not finite is skipped; with more, the device
    /// is never waited for, but such a step ends the run when it is found.
    pub check_every: u64,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            out: "runs/train".into(),
            seed: 0,
            epochs: None,
            steps: None,
            accumulate: 1,
            replay: false,
            local_loss: true,
            shard_optimizer: false,
            logit_scale_range: vec![0.0, 100f64.ln()],
            ema: None,
            max_skipped: 10,
            check_every: 1,
        }
    }
}

/// The `[log]` table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Steps between entries.
    pub every: u64,
    /// Steps between validations; 0 validates at the end only.
    pub validate_every: u64,
    /// Writes TensorBoard event files.
    pub tensorboard: bool,
    /// Shows a progress bar.
    pub progress: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            every: 10,
            validate_every: 0,
            tensorboard: true,
            progress: true,
        }
    }
}
