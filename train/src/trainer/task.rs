//! A training method, as the engine sees it.

use crate::error::BoxError;
use crate::trainer::pass::Pass;
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::AutodiffBackend};
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

/// One training method: how a batch is embedded, and what the loss of the embeddings is.
///
/// The cut between the two is what lets the engine enlarge the batch beyond one graph (gradient cache) and
/// beyond one device (all-gather) without the method's knowledge: [`embed`](Self::embed) sees a
/// micro-batch, [`loss`](Self::loss) the embeddings of all of them.
pub trait Task<B: AutodiffBackend> {
    /// The model that is trained: any burn module.
    type Model: AutodiffModule<B>;
    /// A batch in host memory, made by the loader's threads.
    type Batch: Send + 'static;
    /// What users get: the model with all that is needed to use it.
    type Trained: Trained;

    /// Embeds a micro-batch. It may be called twice for the same batch and must then do the same, random
    /// draws included: the pass and the device are seeded alike before both calls.
    ///
    /// # Errors
    ///
    /// When the batch does not fit the model; the run ends with it.
    fn embed(
        &self,
        model: &Self::Model,
        batch: &Self::Batch,
        pass: &mut Pass<B>,
    ) -> Result<Embedded<B>, BoxError>;

    /// Loss of the embeddings of the whole batch, by the names that [`embed`](Self::embed) gave them.
    /// Parameters that only appear here, such as the logit scale, may be read from the model. Not called when
    /// there are no embeddings.
    ///
    /// # Errors
    ///
    /// When the embeddings are not those that the loss is made of; the run ends with it.
    fn loss(&self, model: &Self::Model, embeddings: Embeddings<B>) -> Result<Losses<B>, BoxError>;

    /// True if [`loss`](Self::loss) answers for [`Embeddings::rows`] only, so that its sum over the replicas is the loss of
    /// the whole batch. Each replica then takes a part of it, and none the whole.
    fn by_rows(&self) -> bool {
        false
    }

    /// Samples in a batch.
    fn samples(&self, batch: &Self::Batch) -> usize;

    /// The model in its final form: rated by validations, written into checkpoints and at the end.
    fn trained(&self, model: <Self::Model as AutodiffModule<B>>::InnerModule) -> Self::Trained;
}

/// A trained model that other programs can load.
pub trait Trained: Send + 'static {
    /// Writes the model's files into `dir`, which exists. Called on a thread of its own while training goes on.
    ///
    /// # Errors
    ///
    /// Whatever the writer meets; the checkpoint is then not kept.
    fn write_into(&self, dir: &Path) -> Result<(), BoxError>;

    /// Where [`write_into`](Self::write_into) puts the values of a parameter, bit for bit, so that a checkpoint need
    /// not hold them twice. `None`: nowhere, or not exactly.
    fn stored(&self, _path: &str) -> Option<Stored> {
        None
    }
}

/// Nothing to write: for models that only live in a program.
impl Trained for () {
    fn write_into(&self, _: &Path) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A tensor of a safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Path below the folder that the model was written into.
    pub file: String,
    /// Name in that file.
    pub tensor: String,
}

/// What a micro-batch contributes.
pub struct Embedded<B: AutodiffBackend> {
    /// Embeddings that the loss of the whole batch is made of.
    pub embeddings: Embeddings<B>,
    /// Losses that are means over samples or tokens, such as a captioner's.
    pub means: Vec<MeanLoss<B>>,
}

impl<B: AutodiffBackend> Default for Embedded<B> {
    fn default() -> Self {
        Self {
            embeddings: Embeddings::default(),
            means: Vec::new(),
        }
    }
}

impl<B: AutodiffBackend> Embedded<B> {
    /// Adds embeddings, such as `image` or `text`. A name may be given several times.
    ///
    /// # Shapes
    ///
    /// - rows: `[samples, dim]`
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, rows: Tensor<B, 2>) -> Self {
        self.embeddings.push(name, rows);
        self
    }

    /// Adds a loss that is a mean over samples or tokens.
    pub fn with_mean(mut self, mean: MeanLoss<B>) -> Self {
        self.means.push(mean);
        self
    }
}

/// Named embeddings in the order in which they were given.
pub struct Embeddings<B: AutodiffBackend> {
    named: Vec<(Cow<'static, str>, Tensor<B, 2>)>,
    /// Those that this replica answers for; absent: all.
    pub(crate) rows: Option<Range<usize>>,
}

impl<B: AutodiffBackend> Default for Embeddings<B> {
    fn default() -> Self {
        Self {
            named: Vec::new(),
            rows: None,
        }
    }
}

impl<B: AutodiffBackend> Embeddings<B> {
    /// Adds embeddings.
    ///
    /// # Shapes
    ///
    /// - rows: `[samples, dim]`
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, rows: Tensor<B, 2>) {
        self.named.push((name.into(), rows));
    }

    /// The rows that the loss is asked for, of however many there are in the whole batch: all, or those of this replica
    /// where the task takes its loss [`by_rows`](Task::by_rows). A loss of some rows is their share of the sum, divided by
    /// the size of the whole batch.
    pub fn rows(&self) -> Range<usize> {
        let all = || self.named.first().map_or(0, |(_, rows)| rows.dims()[0]);
        self.rows.clone().unwrap_or_else(|| 0..all())
    }

    /// Takes the embeddings of a name that was given once.
    ///
    /// # Errors
    ///
    /// When there are none or several, with the names that there are.
    pub fn one(&mut self, name: &str) -> Result<Tensor<B, 2>, BoxError> {
        let given = self.names();
        let mut rows = self.all(name);
        match (rows.pop(), rows.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(format!(
                "the loss needs embeddings `{name}` once, and the batch has [{}]",
                given.join(", ")
            )
            .into()),
        }
    }

    /// Takes all embeddings of a name.
    pub fn all(&mut self, name: &str) -> Vec<Tensor<B, 2>> {
        let (taken, left) = std::mem::take(&mut self.named)
            .into_iter()
            .partition(|(found, _)| found == name);
        self.named = left;
        let taken: Vec<_> = taken;
        taken.into_iter().map(|(_, rows)| rows).collect()
    }

    /// The names that are left, in their order.
    pub fn names(&self) -> Vec<String> {
        self.named
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    /// Names and rows in their order.
    pub(crate) fn named(&self) -> &[(Cow<'static, str>, Tensor<B, 2>)] {
        &self.named
    }

    /// Names and rows in their order.
    pub fn into_named(self) -> Vec<(Cow<'static, str>, Tensor<B, 2>)> {
        self.named
    }
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

impl<B: AutodiffBackend> From<Tensor<B, 1>> for Losses<B> {
    /// A loss without parts.
    fn from(total: Tensor<B, 1>) -> Self {
        Self {
            total,
            parts: Vec::new(),
        }
    }
}
