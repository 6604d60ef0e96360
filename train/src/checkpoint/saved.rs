//! What a checkpoint holds, in host memory.

use super::{names, tensors};
use crate::error::{Result, TrainError};
use crate::feed::Place;
use crate::parameters::Parameter;
use crate::trainer::task::Stored;
use burn::tensor::TensorData;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Counters of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done, skipped ones included.
    pub step: u64,
    /// Samples seen, by all replicas.
    pub samples: u64,
    /// Steps skipped because a loss or gradient was not finite.
    pub skipped: u64,
    /// Where the next step begins in the data: in the stream of this replica while it trains, of all replicas together in
    /// a checkpoint, so that another number of them can go on from there.
    pub place: Place,
    /// Metrics of these weights, if they were validated at this step.
    pub metrics: BTreeMap<String, f64>,
}

/// With what a run is computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this crate.
    pub version: String,
    /// Features of the build, as its program names them.
    pub features: Vec<String>,
    /// burn's name of the backend.
    pub backend: String,
    /// Its device.
    pub device: String,
    /// f32 or bf16.
    pub precision: String,
}

fn one() -> usize {
    1
}

/// `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Counters.
    #[serde(flatten)]
    pub progress: Progress,
    /// With what it was computed.
    pub environment: Environment,
    /// Number of replicas.
    #[serde(default = "one")]
    pub replicas: usize,
    /// Samples of a step, of all replicas; 0 where nobody has written it down.
    #[serde(default)]
    pub per_step: u64,
    /// Hash of the parameters that are not trained, and so not in here; absent if all are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<String>,
}

/// Where a parameter lies in the files of the exported model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAs {
    /// Path below `model/`.
    pub file: String,
    /// Name in that file.
    pub tensor: String,
    /// Its shape in the model.
    pub shape: Vec<usize>,
}

impl StoredAs {
    /// Of a parameter of that shape.
    pub fn new(stored: Stored, shape: &[usize]) -> Self {
        Self {
            file: stored.file,
            tensor: stored.tensor,
            shape: shape.to_vec(),
        }
    }
}

/// Content of a checkpoint but for the exported model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Trained parameters by path.
    pub weights: BTreeMap<String, TensorData>,
    /// Trained parameters that the exported model holds.
    pub exported: BTreeMap<String, StoredAs>,
    /// Optimizer state.
    pub optimizer: BTreeMap<String, TensorData>,
    /// Averaged weights.
    pub ema: Option<BTreeMap<String, TensorData>>,
    /// Counters and circumstances.
    pub state: State,
}

impl Saved {
    /// Reads a checkpoint that is known to be intact. What the exported model held is among the weights.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let optional = |name: &str| {
            let path = dir.join(name);
            path.exists().then(|| tensors::read(&path)).transpose()
        };
        let mut weights = optional(names::WEIGHTS)?.unwrap_or_default();
        let map = dir.join(names::EXPORTED);
        if map.exists() {
            let text = std::fs::read_to_string(&map).map_err(TrainError::io(&map))?;
            let exported: BTreeMap<String, StoredAs> = serde_json::from_str(&text)
                .map_err(|e| TrainError::checkpoint(dir, format!("{}: {e}", names::EXPORTED)))?;
            weights.extend(read_exported(dir, exported)?);
        }
        Ok(Self {
            weights,
            exported: BTreeMap::new(),
            optimizer: tensors::read(&dir.join(names::OPTIMIZER))?,
            ema: optional(names::EMA)?,
            state: read_state(dir)?,
        })
    }
}

fn read_exported(
    dir: &Path,
    exported: BTreeMap<String, StoredAs>,
) -> Result<BTreeMap<String, TensorData>> {
    let mut files = BTreeMap::new();
    let mut weights = BTreeMap::new();
    for (path, stored) in exported {
        let file = dir.join(names::MODEL).join(&stored.file);
        if !files.contains_key(&stored.file) {
            files.insert(stored.file.clone(), tensors::read(&file)?);
        }
        let found = files
            .get_mut(&stored.file)
            .and_then(|f| f.remove(&stored.tensor));
        let sides = stored.shape.iter().copied();
        let elements = sides.fold(1, usize::saturating_mul);
        let data = found.filter(|data| data.num_elements() == elements);
        let mut data = data.ok_or_else(|| {
            let what = format!("`{}` is not in it as `{path}` needs it", stored.tensor);
            TrainError::checkpoint(&file, what)
        })?;
        data.shape = stored.shape.into();
        weights.insert(path, data);
    }
    Ok(weights)
}

pub(super) fn read_state(dir: &Path) -> Result<State> {
    let path = dir.join(names::STATE);
    let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    let state: State = serde_json::from_str(&text)
        .map_err(|e| TrainError::checkpoint(dir, format!("{}: {e}", names::STATE)))?;
    let Progress {
        step,
        samples,
        skipped,
        place,
        ..
    } = &state.progress;
    for (name, count) in [
        ("step", *step),
        ("samples", *samples),
        ("skipped", *skipped),
        ("place.epoch", place.epoch),
        ("place.sample", place.sample),
        ("replicas", state.replicas as u64),
        ("per_step", state.per_step),
    ] {
        if count > MOST {
            let what = format!("{}: `{name}` is {count}, beyond any run", names::STATE);
            return Err(TrainError::checkpoint(dir, what));
        }
    }
    Ok(state)
}

/// Counters are added to and multiplied by one another.
const MOST: u64 = 1 << 53;

/// Compares the parameters of a checkpoint with those of a model.
///
/// # Errors
///
/// A sentence that lists the parameters that are missing, unknown or of another shape.
pub(crate) fn check_weights(
    weights: &BTreeMap<String, TensorData>,
    model: &[Parameter],
) -> Result<(), String> {
    let mut wrong = Vec::new();
    for parameter in model {
        match weights.get(&parameter.path) {
            None => wrong.push(format!("`{}` is missing", parameter.path)),
            Some(data) if !data.shape.iter().eq(parameter.shape.iter()) => wrong.push(format!(
                "`{}` is {:?} and should be {:?}",
                parameter.path, data.shape, parameter.shape
            )),
            Some(_) => {}
        }
    }
    let known = |name: &String| model.iter().any(|p| &p.path == name);
    wrong.extend(
        weights
            .keys()
            .filter(|n| !known(n))
            .map(|n| format!("`{n}` is not in the model")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    let (shown, more) = (wrong.len().min(10), wrong.len().saturating_sub(10));
    let rest = if more > 0 {
        format!("\n  and {more} more")
    } else {
        String::new()
    };
    Err(format!(
        "it holds another model:\n  {}{rest}",
        wrong[..shown].join("\n  ")
    ))
}
