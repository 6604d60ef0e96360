//! AdamW with parameter groups, in one pass over the model.
//!
//! Loshchilov and Hutter, 2019, algorithm 2, in the order of operations of `torch.optim.AdamW`. Moments are
//! flat vectors keyed by path, so that they can be written to a file that other programs read, and found
//! again after a restart.

use super::flat::{Trained, change_trained};
use super::gradients::Gradients;
use crate::error::{Result, TrainError};
use crate::parameters::groups::Groups;
use burn::module::AutodiffModule;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// The `[optimizer]` table of a recipe. Defaults are open_clip's for vision transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamWConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Limit of the global L2 norm of the gradients. Absent: no clipping.
    pub clip_norm: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            lr: 5e-4,
            beta1: 0.9,
            beta2: 0.98,
            eps: 1e-6,
            weight_decay: 0.2,
            clip_norm: None,
        }
    }
}

impl AdamWConfig {
    /// Checks that the values can be used.
    ///
    /// # Errors
    ///
    /// When a value is outside its range; the message names it.
    pub fn check(&self) -> Result<()> {
        let unit = |v: f64| (0.0..1.0).contains(&v);
        let positive = |v: f64| v.is_finite() && v > 0.0;
        let refused = [
            ("lr", self.lr, positive(self.lr), "above 0"),
            ("beta1", self.beta1, unit(self.beta1), "in [0, 1)"),
            ("beta2", self.beta2, unit(self.beta2), "in [0, 1)"),
            ("eps", self.eps, positive(self.eps), "above 0"),
            (
                "weight_decay",
                self.weight_decay,
                self.weight_decay.is_finite() && self.weight_decay >= 0.0,
                "at least 0",
            ),
            (
                "clip_norm",
                self.clip_norm.unwrap_or(1.0),
                self.clip_norm.is_none_or(positive),
                "above 0",
            ),
        ];
        match refused.into_iter().find(|(_, _, usable, _)| !usable) {
            None => Ok(()),
            Some((name, value, _, range)) => Err(TrainError::Config(format!(
                "optimizer.{name} = {value} must be {range}"
            ))),
        }
    }
}

/// AdamW over the groups of a model.
#[derive(Debug)]
pub struct GroupedAdamW<B: AutodiffBackend> {
    config: AdamWConfig,
    rules: HashMap<String, (f64, f64)>, // path → (factor on lr, weight decay)
    moments: BTreeMap<String, Moments<B::InnerBackend>>,
}

/// State of one parameter.
#[derive(Debug)]
struct Moments<B: Backend> {
    exp_avg: Tensor<B, 1>,
    exp_avg_sq: Tensor<B, 1>,
    steps: i32,
}

impl<B: AutodiffBackend> GroupedAdamW<B> {
    /// An optimizer without state.
    pub fn new(config: AdamWConfig, groups: &Groups) -> Self {
        let rules = groups.0.iter().filter(|r| r.trainable).map(|rule| {
            let decay = if rule.decay { config.weight_decay } else { 0.0 };
            (rule.parameter.path.clone(), (rule.lr_scale, decay))
        });
        Self {
            rules: rules.collect(),
            config,
            moments: BTreeMap::new(),
        }
    }

    /// Keeps rules and moments of these parameters only; the others stay as they are in every [`step`](Self::step).
    pub fn keep(&mut self, own: impl Fn(&str) -> bool) {
        self.rules.retain(|path, _| own(path));
        self.moments.retain(|path, _| own(path));
    }

    /// One update with learning rate `lr`. Parameters without a gradient or a rule stay as they are.
    pub fn step<M: AutodiffModule<B>>(
        &mut self,
        lr: f64,
        model: M,
        gradients: &mut Gradients<B::InnerBackend>,
    ) -> M {
        change_trained(model, |trained| {
            let mut done = Vec::with_capacity(trained.len());
            let mut together = Together::default();
            for Trained { path, id, weights } in trained {
                let rule = self.rules.get(&path);
                let Some((&(lr_scale, decay), gradient)) = rule.zip(gradients.remove(id)) else {
                    done.push(Some(weights));
                    continue;
                };
                let gradient = gradient.cast(weights.dtype());
                let (seat, lr) = (done.len(), lr * lr_scale);
                match self.moments.remove(&path) {
                    Some(moments) => {
                        let numbers = numbers(&self.config, lr, decay, moments.steps + 1);
                        let tensors = [weights, gradient, moments.exp_avg, moments.exp_avg_sq];
                        together.updates.push((numbers, tensors));
                        together.of.push((seat, path, moments.steps + 1));
                        done.push(None);
                    }
                    None => {
                        let numbers = numbers(&self.config, lr, decay, 1);
                        let [weights, exp_avg, exp_avg_sq] = first(numbers, weights, gradient);
                        let moments = Moments {
                            exp_avg,
                            exp_avg_sq,
                            steps: 1,
                        };
                        self.moments.insert(path, moments);
                        done.push(Some(weights));
                    }
                }
            }
            let updated = kernels::adamw_all(together.updates).unwrap_or_else(|updates| {
                let updates = updates.into_iter();
                let updated = updates.map(|(numbers, tensors)| update(numbers, tensors));
                updated.collect()
            });
            for ((seat, path, steps), updated) in together.of.into_iter().zip(updated) {
                let [weights, exp_avg, exp_avg_sq] = updated;
                let moments = Moments {
                    exp_avg,
                    exp_avg_sq,
                    steps,
                };
                self.moments.insert(path, moments);
                done[seat] = Some(weights);
            }
            let weights = done.into_iter();
            weights
                .map(|weights| weights.expect("all were updated"))
                .collect()
        })
    }

    /// The state as named flat vectors: `exp_avg.PATH`, `exp_avg_sq.PATH`, `step.PATH`.
    pub fn state(&self) -> BTreeMap<String, TensorData> {
        let mut state = BTreeMap::new();
        for (path, moments) in &self.moments {
            state.insert(format!("exp_avg.{path}"), moments.exp_avg.to_data());
            state.insert(format!("exp_avg_sq.{path}"), moments.exp_avg_sq.to_data());
            state.insert(format!("step.{path}"), TensorData::from([moments.steps]));
        }
        state
    }

    /// Takes over a state made by [`state`](Self::state). With `lenient`, moments of parameters that are not trained any
    /// more are dropped; the paths of these are returned.
    ///
    /// # Errors
    ///
    /// A sentence naming the first entry that does not belong to this model, or is missing or mis-shaped.
    pub fn load(
        &mut self,
        mut state: BTreeMap<String, TensorData>,
        groups: &Groups,
        lenient: bool,
        device: &B::Device,
    ) -> Result<Vec<String>, String> {
        let (mut moments, mut dropped) = (BTreeMap::new(), Vec::new());
        let paths: Vec<String> = state
            .keys()
            .filter_map(|k| k.strip_prefix("step."))
            .map(str::to_string)
            .collect();
        for path in paths {
            let rule = groups
                .0
                .iter()
                .find(|r| r.trainable && r.parameter.path == path);
            let Some(rule) = rule else {
                if !lenient {
                    return Err(format!(
                        "optimizer state for `{path}`, which is not trained"
                    ));
                }
                for name in ["exp_avg", "exp_avg_sq", "step"] {
                    state.remove(&format!("{name}.{path}"));
                }
                dropped.push(path);
                continue;
            };
            let length = rule.parameter.len();
            let mut take = |name: &str| {
                let key = format!("{name}.{path}");
                let data = state.remove(&key).ok_or(format!("`{key}` is missing"))?;
                if data.num_elements() != length {
                    let found = data.num_elements();
                    return Err(format!(
                        "`{key}` has {found} elements where {length} are needed"
                    ));
                }
                let dtype = data.dtype;
                Ok(Tensor::from_data(data, (device, dtype)))
            };
            let (exp_avg, exp_avg_sq) = (take("exp_avg")?, take("exp_avg_sq")?);
            let key = format!("step.{path}");
            let steps = state
                .remove(&key)
                .and_then(|data| data.iter::<i32>().next());
            let steps = steps.ok_or(format!("`{key}` is empty"))?;
            moments.insert(
                path,
                Moments {
                    exp_avg,
                    exp_avg_sq,
                    steps,
                },
            );
        }
        match state.into_keys().next() {
            Some(extra) => Err(format!("`{extra}` belongs to nothing")),
            None => {
                self.moments = moments;
                Ok(dropped)
            }
        }
    }
}

/// Updates that can be made together.
struct Together<B: Backend> {
    updates: kernels::Updates<Tensor<B, 1>>,
    /// Of each update: the place of its parameter among all, its path and its number of steps.
    of: Vec<(usize, String, i32)>,
}

impl<B: Backend> Default for Together<B> {
    fn default() -> Self {
        Self {
            updates: Vec::new(),
            of: Vec::new(),
        }
    }
}

/// The numbers of a parameter's update number `steps`.
fn numbers(config: &AdamWConfig, lr: f64, decay: f64, steps: i32) -> kernels::AdamW {
    let AdamWConfig {
        beta1, beta2, eps, ..
    } = *config;
    kernels::AdamW {
        beta1,
        beta2,
        eps,
        step_size: lr / (1.0 - beta1.powi(steps)),
        root: (1.0 - beta2.powi(steps)).sqrt(),
        keep: if decay > 0.0 { 1.0 - lr * decay } else { 1.0 },
    }
}

/// Weights and moments after the first update of a flat parameter.
fn first<B: Backend>(
    numbers: kernels::AdamW,
    weights: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
) -> [Tensor<B, 1>; 3] {
    let exp_avg_sq = gradient.clone().square() * (1.0 - numbers.beta2);
    let exp_avg = gradient * (1.0 - numbers.beta1);
    moved(numbers, weights, exp_avg, exp_avg_sq)
}

/// Weights and moments after a later one, from weights, gradient and moments.
fn update<B: Backend>(numbers: kernels::AdamW, tensors: [Tensor<B, 1>; 4]) -> [Tensor<B, 1>; 3] {
    if let Some(made) = kernels::adamw(numbers, tensors.each_ref()) {
        return made;
    }
    let kernels::AdamW { beta1, beta2, .. } = numbers;
    let [weights, gradient, exp_avg, exp_avg_sq] = tensors;
    let square = gradient.clone().square();
    let exp_avg = exp_avg * beta1 + gradient * (1.0 - beta1);
    let exp_avg_sq = exp_avg_sq * beta2 + square * (1.0 - beta2);
    moved(numbers, weights, exp_avg, exp_avg_sq)
}

/// Weights as the moments move them, with these.
fn moved<B: Backend>(
    numbers: kernels::AdamW,
    weights: Tensor<B, 1>,
    exp_avg: Tensor<B, 1>,
    exp_avg_sq: Tensor<B, 1>,
) -> [Tensor<B, 1>; 3] {
    let weights = if numbers.keep == 1.0 {
        weights
    } else {
        weights * numbers.keep
    };
    let denominator = exp_avg_sq.clone().sqrt() / numbers.root + numbers.eps;
    let weights = weights - exp_avg.clone() * numbers.step_size / denominator;
    [weights, exp_avg, exp_avg_sq]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::groups::GroupsConfig;
    use crate::parameters::stable_ids::with_stable_ids;
    use crate::parameters::{parameters, read_parameters};
    use crate::toy::{Towers, TrainBackend};

    type Inner = <TrainBackend as AutodiffBackend>::InnerBackend;

    fn setup() -> (Towers<TrainBackend>, Groups) {
        let model = with_stable_ids(Towers::<TrainBackend>::new(0, &Default::default())).unwrap();
        let groups = Groups::new(&GroupsConfig::default(), parameters(&model)).unwrap();
        (model, groups)
    }

    fn gradients(model: &Towers<TrainBackend>) -> Gradients<Inner> {
        let loss = model.text.text_projection.val().square().sum() + model.logit_scale.val();
        Gradients::take(&mut loss.backward(), model)
    }

    #[test]
    fn the_first_update_moves_by_the_learning_rate_against_the_gradient() {
        let (model, groups) = setup();
        let mut optimizer = GroupedAdamW::new(AdamWConfig::default(), &groups);
        let before = model.logit_scale.val().into_scalar();
        let mut gradients = gradients(&model);
        let model = optimizer.step(0.01, model, &mut gradients);
        // g / (sqrt(g²) + eps) = 1 / (1 + 1e-6), and no decay on a scalar.
        let moved = before - model.logit_scale.val().into_scalar();
        assert!((moved - 0.01).abs() < 1e-6, "{moved}");
    }

    #[test]
    fn decay_shrinks_matrices_even_where_the_gradient_is_zero() {
        let (model, groups) = setup();
        let mut optimizer = GroupedAdamW::new(AdamWConfig::default(), &groups);
        let before = model.text.text_projection.val().into_data();
        let mut gradients = Gradients::default();
        let zero = Tensor::<Inner, 1>::zeros([before.num_elements()], &Default::default());
        gradients.insert(model.text.text_projection.id, zero);
        let model = optimizer.step(0.1, model, &mut gradients);
        let after = model.text.text_projection.val().into_data();
        for (a, b) in after.iter::<f32>().zip(before.iter::<f32>()) {
            assert!((a - b * 0.98).abs() < 1e-6);
        }
    }

    #[test]
    fn parameters_without_a_gradient_stay() {
        let (model, groups) = setup();
        let mut optimizer = GroupedAdamW::new(AdamWConfig::default(), &groups);
        let before = read_parameters(&model);
        let mut gradients = gradients(&model);
        let after = read_parameters(&optimizer.step(0.1, model, &mut gradients));
        let changed: Vec<&String> = before.keys().filter(|k| before[*k] != after[*k]).collect();
        assert_eq!(changed, ["logit_scale", "text.text_projection"]);
    }

    #[test]
    fn a_restored_optimizer_continues_bit_for_bit() {
        let (mut model, groups) = setup();
        let mut optimizer = GroupedAdamW::new(AdamWConfig::default(), &groups);
        for _ in 0..3 {
            let mut gradients = gradients(&model);
            model = optimizer.step(0.01, model, &mut gradients);
        }
        let mut restored = GroupedAdamW::new(AdamWConfig::default(), &groups);
        restored
            .load(optimizer.state(), &groups, false, &Default::default())
            .unwrap();
        let twin = model.clone();
        let mut gradients_twin = gradients(&twin);
        let mut gradients = gradients(&model);
        let model = optimizer.step(0.01, model, &mut gradients);
        let twin = restored.step(0.01, twin, &mut gradients_twin);
        assert_eq!(read_parameters(&model), read_parameters(&twin));
        assert_eq!(optimizer.state(), restored.state());
    }

    #[test]
    fn a_state_of_another_model_is_refused_by_name() {
        let (model, groups) = setup();
        let mut optimizer = GroupedAdamW::<TrainBackend>::new(AdamWConfig::default(), &groups);
        let mut gradients = gradients(&model);
        optimizer.step(0.01, model, &mut gradients);
        let device = Default::default();
        let mut state = optimizer.state();
        state.insert("step.visual.gone".into(), TensorData::from([1]));
        assert!(
            optimizer
                .load(state, &groups, false, &device)
                .unwrap_err()
                .contains("visual.gone")
        );
        let mut state = optimizer.state();
        state.insert(
            "exp_avg.logit_scale".into(),
            TensorData::from([1.0f32, 2.0]),
        );
        assert!(
            optimizer
                .load(state, &groups, false, &device)
                .unwrap_err()
                .contains("2 elements")
        );
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        let config = AdamWConfig {
            beta2: 1.0,
            ..Default::default()
        };
        assert!(config.check().unwrap_err().to_string().contains("beta2"));
        assert!(AdamWConfig::default().check().is_ok());
    }
}
