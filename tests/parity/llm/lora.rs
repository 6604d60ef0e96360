//! LoRA. Reference: `tests/reference/llm_encoder.py` (peft 0.21, float32, CPU).

use super::encoder::load;
use super::{Fixture, assert_relative, path};
use crate::fixture::host;
use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleVisitor, Param};
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, TensorData};
use burn_ndarray::NdArray;
use clip_burn::clip::Precision;
use clip_burn::clip::checkpoint::{ParamPath, collect};
use clip_burn::llm::lm::{Predictions, cross_entropy};
use clip_burn::llm::{Decoder, Dropout, Encoder, LoadOptions, LoraConfig, Visibility, Wrapped};
use std::collections::BTreeMap;

/// Of the largest entry.
const TOLERANCE: f32 = 1e-5;

struct Case {
    fixture: Fixture,
    lengths: Vec<usize>,
}

impl Case {
    fn read() -> Self {
        let fixture = Fixture::read("encoder/lora");
        let lengths = fixture
            .values("lengths")
            .into_iter()
            .map(|len| len as usize);
        Self {
            lengths: lengths.collect(),
            fixture,
        }
    }

    fn hidden<B: Backend>(&self, model: &Decoder<B>, dropout: Option<Dropout>) -> Tensor<B, 3> {
        let device = Default::default();
        let ids = self.fixture.ids();
        let seq = ids.dims()[1];
        let context = model.context(Visibility::Bidirectional, &self.lengths, seq, &device);
        let hidden = model.run(ids, &context.with_dropout(dropout));
        hidden.cast(DType::F32) * self.real(seq)
    }

    /// Hidden states of padding are nobody's business.
    fn real<B: Backend>(&self, seq: usize) -> Tensor<B, 3> {
        let row = |len: &usize| {
            (0..seq)
                .map(|i| f32::from(i + *len >= seq))
                .collect::<Vec<_>>()
        };
        let real: Vec<f32> = self.lengths.iter().flat_map(row).collect();
        let data = TensorData::new(real, [self.lengths.len(), seq, 1]);
        Tensor::from_data(data, &Default::default())
    }

    fn expected(&self, name: &str) -> Vec<f32> {
        let values = self.fixture.values(name);
        let [batch, seq] = self.fixture.ids::<Flex>().dims();
        let width = values.len() / (batch * seq);
        let data = TensorData::new(values, [batch, seq, width]);
        host(Tensor::<Flex, 3>::from_data(data, &Default::default()) * self.real(seq))
    }

    fn weights<B: Backend>(&self) -> Tensor<B, 3> {
        let [batch, seq] = self.fixture.ids::<Flex>().dims();
        let values = self.fixture.values("weights");
        let width = values.len() / (batch * seq);
        let data = TensorData::new(values, [batch, seq, width]);
        Tensor::from_data(data, &Default::default())
    }
}

fn adapted<B: Backend>() -> (Decoder<B>, LoraConfig) {
    let model = load::<B>(None).model;
    let adapter = path("encoder/lora");
    model.with_adapter(&adapter, &Default::default()).unwrap()
}

/// Gradients by path; a parameter without one is left out.
fn gradients<B: AutodiffBackend>(
    model: &Decoder<B>,
    loss: Tensor<B, 1>,
) -> BTreeMap<String, Vec<f32>> {
    struct Visit<'a, B: AutodiffBackend>(ParamPath, &'a B::Gradients, BTreeMap<String, Vec<f32>>);
    impl<B: AutodiffBackend> ModuleVisitor<B> for Visit<'_, B> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.0.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            if let Some(grad) = param.val().grad(self.1) {
                self.2.insert(self.0.join(), host(grad));
            }
        }
    }
    let grads = loss.backward();
    let mut visit = Visit(ParamPath::default(), &grads, BTreeMap::new());
    model.visit(&mut visit);
    visit.2
}

fn forward_gradients_and_merge_match<B: AutodiffBackend>(backend: &str) {
    let case = Case::read();
    let (model, config) = adapted::<B>();
    assert_eq!(
        (config.rank, config.scale(), config.dropout),
        (4, 2.0, 0.05)
    );
    let hidden = case.hidden(&model, None);
    let what = format!("hidden states on {backend}");
    assert_relative(
        &what,
        &host(hidden.clone()),
        &case.expected("hidden"),
        TOLERANCE,
    );

    let grads = gradients(&model, (hidden * case.weights()).sum());
    assert_eq!(
        grads.len(),
        2 * 7 * 2,
        "A and B of every layer, and nothing else"
    );
    let mut worst = (0.0, String::new());
    for (name, got) in &grads {
        let theirs = name.replace(".lora.lora_a", ".lora_A");
        let theirs = theirs.replace(".lora.lora_b", ".lora_B");
        let expected = case.fixture.values(&format!("grad.{theirs}.weight"));
        let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let distance = crate::fixture::distance(got, &expected) / largest;
        if distance > worst.0 {
            worst = (distance, name.clone());
        }
    }
    println!(
        "gradients on {backend}: differ by {:.1e}, {}",
        worst.0, worst.1
    );
    assert!(worst.0 <= TOLERANCE, "{worst:?}");

    let merged = model.merge_lora();
    assert!(!merged.has_lora());
    let got = host(case.hidden(&merged, None));
    assert_relative(
        &format!("merged on {backend}"),
        &got,
        &case.expected("merged"),
        TOLERANCE,
    );
    assert_relative(
        &format!("unmerged on {backend}"),
        &got,
        &case.expected("hidden"),
        TOLERANCE,
    );
}

#[test]
fn forward_gradients_and_merge_match_peft_on_flex() {
    forward_gradients_and_merge_match::<Autodiff<Flex>>("flex");
}

#[test]
fn forward_gradients_and_merge_match_peft_on_ndarray() {
    forward_gradients_and_merge_match::<Autodiff<NdArray>>("ndarray");
}

#[test]
fn a_new_lora_changes_no_bit_until_it_is_trained() {
    let case = Case::read();
    let device = Default::default();
    for weights in [Precision::F32, Precision::Bf16] {
        let options = LoadOptions {
            precision: weights,
            weights,
        };
        let encoder = Encoder::<Flex>::load(&path("encoder/cc"), None, &options, &device);
        let model = encoder.unwrap().model;
        let before = case.hidden(&model, None).into_data();
        let model = model
            .with_lora(&LoraConfig::llm2clip(), 5, &device)
            .unwrap();
        assert_eq!(case.hidden(&model, None).into_data(), before);
        let dropout = Dropout::of_rows(1, 0, case.lengths.len());
        assert_eq!(case.hidden(&model, Some(dropout)).into_data(), before);
        assert_eq!(case.hidden(&model.merge_lora(), None).into_data(), before);
    }
}

#[test]
fn a_frozen_base_in_bf16_stays_bf16_and_only_lora_has_gradients() {
    let case = Case::read();
    let device = Default::default();
    let options = LoadOptions {
        precision: Precision::F32,
        weights: Precision::Bf16,
    };
    let encoder = Encoder::<Autodiff<Flex>>::load(&path("encoder/cc"), None, &options, &device);
    let (model, _) = encoder
        .unwrap()
        .model
        .with_adapter(&path("encoder/lora"), &device)
        .unwrap();
    let q_proj = &model.layers[0].self_attn.q_proj;
    assert_eq!(q_proj.weight.val().dtype(), DType::BF16);
    assert_eq!(
        q_proj.lora.as_ref().unwrap().lora_a.val().dtype(),
        DType::F32
    );
    // The file is bf16, so nothing is lost.
    let hidden = case.hidden(&model, None);
    assert_relative(
        "hidden",
        &host(hidden.clone()),
        &case.expected("hidden"),
        TOLERANCE,
    );
    let grads = gradients(&model, (hidden * case.weights()).sum());
    assert!(grads.keys().all(|name| name.contains("lora_")), "{grads:?}");
    let merged = model.merge_lora().layers[0].self_attn.q_proj.weight.val();
    assert_eq!(merged.dtype(), DType::BF16);
}

#[test]
fn dropout_gives_the_same_gradients_in_whatever_parts_a_batch_is_computed() {
    type B = Autodiff<Flex>;
    let case = Case::read();
    let device = Default::default();
    let (model, _) = adapted::<B>();
    let rows = case.lengths.len();
    let ids = case.fixture.ids::<B>();
    let seq = ids.dims()[1];
    // The rows `from..to` with no more padding than they need.
    let loss = |from: usize, to: usize, dropout: Option<Dropout>| {
        let lengths = &case.lengths[from..to];
        let longest = *lengths.iter().max().unwrap();
        let ids = ids
            .clone()
            .narrow(0, from, to - from)
            .narrow(1, seq - longest, longest);
        let context = model.context(Visibility::Bidirectional, lengths, longest, &device);
        let hidden = model.run(ids, &context.with_dropout(dropout));
        let weights = case.weights().narrow(0, from, to - from);
        let weights = weights.narrow(1, seq - longest, longest);
        (hidden * weights).sum()
    };
    let draw = |from: usize, to: usize| Some(Dropout::of_rows(9, from, to - from));
    let whole = gradients(&model, loss(0, rows, draw(0, rows)));
    let without = gradients(&model, loss(0, rows, None));
    let first = gradients(&model, loss(0, 2, draw(0, 2)));
    let second = gradients(&model, loss(2, rows, draw(2, rows)));
    for (name, whole) in &whole {
        let parts = first[name].iter().zip(&second[name]).map(|(a, b)| a + b);
        assert_relative(name, &parts.collect::<Vec<_>>(), whole, TOLERANCE);
    }
    let name = "layers.0.self_attn.q_proj.lora.lora_b";
    assert_ne!(whole[name], without[name], "dropout does something");
}

#[test]
fn an_adapter_that_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let device = Default::default();
    let (model, config) = adapted::<Flex>();
    for wrapped in [Wrapped::Decoder, Wrapped::CausalLm] {
        let directory = folder.path().join(format!("{wrapped:?}"));
        model
            .write_adapter(&directory, &config, "base", wrapped)
            .unwrap();
        let (again, read) = load::<Flex>(None)
            .model
            .with_adapter(&directory, &device)
            .unwrap();
        assert_eq!(read, config);
        for ((name, a), (_, b)) in collect(&model).iter().zip(collect(&again).iter()) {
            assert_eq!(a.values(), b.values(), "{name}");
        }
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_name() {
    let device = Default::default();
    let with_lora = |change: &dyn Fn(&mut LoraConfig)| {
        let mut config = LoraConfig::llm2clip();
        change(&mut config);
        let model = load::<Flex>(None).model.with_lora(&config, 0, &device);
        model.map(|_| ()).unwrap_err().to_string()
    };
    assert!(with_lora(&|config| config.targets = vec!["c_fc".into()]).contains("`c_fc`"));
    assert!(with_lora(&|config| config.targets = vec!["proj".into()]).contains("`proj`"));
    assert!(with_lora(&|config| config.targets.clear()).contains("no targets"));
    assert!(with_lora(&|config| config.rank = 0).contains("rank"));
    assert!(with_lora(&|config| config.dropout = 1.0).contains("dropout"));
    let twice = adapted::<Flex>()
        .0
        .with_adapter(&path("encoder/lora"), &device);
    assert!(twice.map(|_| ()).unwrap_err().to_string().contains("merge"));
    let other = super::load::<Flex>("llama1").model.model;
    let refused = other.with_adapter(&path("encoder/lora"), &device);
    let message = refused.map(|_| ()).unwrap_err().to_string();
    assert!(
        message.contains("layers.0.self_attn.k_proj has [4, 32] and [16, 4]"),
        "{message}"
    );
    let one = LoraConfig {
        targets: vec!["layers.1.mlp.up_proj".into(), "q_proj".into()],
        ..LoraConfig::llm2clip()
    };
    let model = load::<Flex>(None)
        .model
        .with_lora(&one, 0, &device)
        .unwrap();
    let names: Vec<String> = collect(&model).names().map(str::to_string).collect();
    let changed: Vec<_> = names
        .iter()
        .filter(|name| name.ends_with("lora_a"))
        .collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
    let config = load::<Flex>(None).config;
    let trained: usize = collect(&model)
        .iter()
        .filter(|(name, _)| name.contains("lora"))
        .map(|(_, tensor)| tensor.len())
        .sum();
    assert_eq!(one.parameters(&config), trained);
}

#[test]
fn a_language_model_with_lora_learns_by_its_lora_alone() {
    type B = Autodiff<Flex>;
    let device = Default::default();
    for name in ["llama3", "llama3_tied"] {
        let model = super::load::<B>(name).model;
        let model = model
            .with_lora(&LoraConfig::llm2clip(), 1, &device)
            .unwrap();
        let ids = Fixture::read(name).ids::<B>();
        let [rows, seq] = ids.dims();
        let labels: Vec<Option<u32>> = (0..rows * seq).map(|i| Some(i as u32 % 90)).collect();
        let context = model
            .model
            .context(Visibility::Causal, &vec![seq; rows], seq, &device);
        let hidden = model.model.run(ids, &context);
        let predictions = Predictions::new(&labels, seq);
        let loss = cross_entropy(hidden, model.head_weight(), &predictions, 1 << 20);
        let grads = loss.backward();
        assert!(model.head_weight().grad(&grads).is_none(), "{name}");
        let lora = model.model.layers[0]
            .self_attn
            .q_proj
            .lora
            .as_ref()
            .unwrap();
        assert!(lora.lora_b.val().grad(&grads).is_some(), "{name}");
        assert!(
            model.model.norm.weight.val().grad(&grads).is_none(),
            "{name}"
        );
    }
}
