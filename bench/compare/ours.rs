//! One piece of work of `bench/compare/compare.py`, timed whenever standard input asks for it.
//!
//! Prints a line of JSON when it is ready; for each line that it reads it works for `--seconds` and prints the seconds of each
//! call; at the end of input it prints the largest memory it had. `peers.py` is the same in Python, and says what is compared.

use anyhow::{Context, Result};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::DType;
use burn::tensor::backend::AutodiffBackend;
use clap::{Parser, ValueEnum};
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, image_paths, lines};
use clip_burn::clip::preprocess::{PixelBatch, Preprocess, PreprocessConfig, decode};
use clip_burn::clip::tokenizer::{END_OF_TEXT_ID, START_OF_TEXT_ID, TokenBatch, Tokenizer};
use clip_burn::clip::{Clip, LoadOptions, Pretrained};
use clip_burn::eval::Features;
use clip_burn::eval::metrics::retrieval::{Matches, Ties, rank, recall_at};
use clip_burn::train::optimizer::{AdamWConfig, GroupedAdamW, logit_scale};
use clip_burn::train::parameters::groups::{Groups, GroupsConfig};
use clip_burn::train::parameters::parameters;
use clip_burn::train::parameters::stable_ids::with_stable_ids;
use clip_burn::train::trainer::collective::Single;
use clip_burn::train::trainer::step::{StepOptions, step};
use clip_burn::train::{Contrastive, ImageTextBatch};
use serde_json::{Value, json};
use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: clip_burn::MiMalloc = clip_burn::MiMalloc;

/// Seconds of calls before anything counts; one call at least.
const WARM_UP: f64 = 0.5;
/// Rows that are compared with the other sides'.
const SHOWN: usize = 8;
const DIM: usize = 512;

/// One piece of work, timed whenever standard input asks for it
#[derive(Parser)]
#[command(after_help = "Example:
  printf '\\n\\n' | cargo run --release --example compare -- --work encode-image --model ViT-B-32 --batch 8")]
struct Arguments {
    #[arg(long)]
    work: Work,
    /// Model directory, or a preset
    #[arg(long, default_value = "ViT-B-32")]
    model: String,
    /// Images, texts or pairs per call
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Seconds of calls for each line of input; one call at least
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Photos: files, folders or a .txt list
    #[arg(long, num_args = 1..)]
    images: Vec<PathBuf>,
    /// File with one caption a line
    #[arg(long)]
    texts: Option<PathBuf>,
    /// Texts and images of a retrieval
    #[arg(long, num_args = 2, default_values_t = [25_000, 5_000])]
    rows: Vec<usize>,
    #[command(flatten)]
    compute: ComputeArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Work {
    EncodeImage,
    EncodeText,
    /// A step as the training loop takes it, the loss read at its end
    Train,
    /// Photos in memory to normalised tensors, one by one
    Preprocess,
    Tokenize,
    /// All scores, and recall@5 both ways
    Recall,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    arguments.compute.check()?;
    let compute = arguments.compute.clone();
    with_backend(compute.backend, compute.precision, arguments)
}

impl Job for Arguments {
    type Out = Result<()>;

    fn run<B: Backend>(self, device: B::Device) -> Result<()>
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        match self.work {
            Work::EncodeImage => encode_image::<B>(&self, &device),
            Work::EncodeText => encode_text::<B>(&self, &device),
            Work::Train => train::<Autodiff<B>>(&self, &device),
            Work::Preprocess => preprocess::<B>(&self, &device),
            Work::Tokenize => tokenize(&self),
            Work::Recall => recall(&self),
        }
    }
}

fn encode_image<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<()> {
    let clip = load::<B>(arguments, device)?;
    let n = arguments.batch as usize;
    let [height, width] = clip.preprocess.config().size;
    let values: Vec<f32> = (0..n * 3 * height * width).map(float).collect();
    let values = TensorData::new(values, [n, 3, height, width]);
    let image = Tensor::<B, 4>::from_data(values, (device, DType::F32));
    encode(arguments, "images", || {
        clip.model.encode_image(image.clone())
    })
}

fn encode_text<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<()> {
    let clip = load::<B>(arguments, device)?;
    let n = arguments.batch as usize;
    let ids = ids(n, clip.config.text_cfg.context_length);
    let ids = clip.model.text.trim(ids).to_tensor::<B>(device); // as `embed_texts` does
    encode(arguments, "texts", || clip.model.encode_text(ids.clone()))
}

fn encode<B: Backend>(
    arguments: &Arguments,
    unit: &str,
    features: impl Fn() -> Tensor<B, 2>,
) -> Result<()> {
    let begun = Instant::now();
    let rows = features();
    let [n, dim] = rows.dims();
    let rows: Vec<f32> = rows.into_data().iter::<f32>().collect();
    let shown: Vec<&[f32]> = rows.chunks(dim).take(SHOWN).collect();
    let ready = json!({"items": n, "unit": unit, "features": shown});
    serve(arguments, begun, ready, || {
        black_box(features().into_data());
        Ok(())
    })
}

fn train<B: AutodiffBackend>(
    arguments: &Arguments,
    device: &Device<B::InnerBackend>,
) -> Result<()> {
    let start = load::<B>(arguments, device)?;
    let n = arguments.batch as usize;
    let [height, width] = start.preprocess.config().size;
    let batch = ImageTextBatch {
        texts: vec![ids(n, start.config.text_cfg.context_length)],
        pixels: PixelBatch {
            pixels: (0..n * height * width * 3)
                .map(|at| bits(at) as u8)
                .collect::<Vec<u8>>()
                .into(),
            n,
            height,
            width,
        },
    };
    let task = Contrastive::new(&start);
    let model = with_stable_ids(start.model)?;
    let groups = Groups::new(&GroupsConfig::default(), parameters(&model))?;
    let mut optimizer = GroupedAdamW::<B>::new(AdamWConfig::default(), &groups);
    // Taken out for the moment in which the optimizer owns it.
    let mut model: Option<Clip<B>> = Some(model);
    let mut call = || -> Result<f32> {
        let now = model.take().expect("every call gives it back");
        let batches = std::slice::from_ref(&batch);
        let options = StepOptions::default();
        let mut step = step(&task, &now, batches, options, &Single, device)?;
        let norm = step
            .gradients
            .norm()
            .expect("all parameters have gradients");
        step.gradients.clip(norm, 1.0);
        let next = optimizer.step(5e-4, now, &mut step.gradients);
        model = Some(logit_scale::clamp::<B, _>(next, [0.0, 100f64.ln()]));
        first(step.loss)
    };
    let begun = Instant::now();
    let losses = (0..3).map(|_| call()).collect::<Result<Vec<f32>>>()?;
    let ready = json!({"items": n, "unit": "pairs", "losses": losses});
    serve(arguments, begun, ready, || call().map(drop))
}

fn preprocess<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<()> {
    let files: Vec<Vec<u8>> = image_paths(&arguments.images)?
        .iter()
        .map(std::fs::read)
        .collect::<Result<_, _>>()?;
    let preprocess = Preprocess::new(PreprocessConfig::default());
    let tensor = |bytes: &[u8]| -> Result<Tensor<B, 4>> {
        let pixels = PixelBatch::of(vec![preprocess.apply(&decode(bytes)?)]);
        Ok(pixels.to_tensor::<B>(preprocess.config(), device))
    };
    let call = || -> Result<()> {
        files.iter().try_for_each(|bytes| {
            black_box(tensor(bytes)?.into_data());
            Ok(())
        })
    };
    let begun = Instant::now();
    let mut means = Vec::new();
    for bytes in files.iter().take(SHOWN) {
        let values: Vec<f64> = tensor(bytes)?.into_data().iter::<f64>().collect();
        means.push(values.iter().sum::<f64>() / values.len() as f64);
    }
    let mean = means.iter().sum::<f64>() / means.len() as f64;
    call()?;
    let ready = json!({"items": files.len(), "unit": "photos", "mean": mean});
    serve(arguments, begun, ready, call)
}

fn tokenize(arguments: &Arguments) -> Result<()> {
    let file = arguments
        .texts
        .as_ref()
        .context("--texts: which captions?")?;
    let texts = lines(file)?;
    let tokenizer = Tokenizer::clip();
    let begun = Instant::now();
    let batch = tokenizer.batch(&texts)?;
    let ready =
        json!({"items": texts.len(), "unit": "captions", "fingerprint": fingerprint(&batch)});
    drop(batch);
    serve(arguments, begun, ready, || {
        black_box(tokenizer.batch(&texts)?);
        Ok(())
    })
}

/// A number that is equal where the ids up to the end of each text are.
fn fingerprint(batch: &TokenBatch) -> i64 {
    let of_row = |row: &[i32]| -> i64 {
        let end = row.iter().position(|&id| id == END_OF_TEXT_ID);
        let text = &row[..end.map_or(row.len(), |end| end + 1)];
        text.iter()
            .zip(1i64..)
            .map(|(&id, place)| i64::from(id) * place)
            .sum()
    };
    batch.rows().map(of_row).sum()
}

fn recall(arguments: &Arguments) -> Result<()> {
    let (n, images) = (arguments.rows[0], arguments.rows[1]);
    let owners: Vec<usize> = (0..n).map(|text| text * images / n).collect();
    let pictures: Vec<f32> = (0..images * DIM).map(float).collect();
    let captions: Vec<f32> = (0..n * DIM)
        .map(|at| {
            let owner = owners[at / DIM];
            float(images * DIM + at) + 0.12 * pictures[owner * DIM + at % DIM]
        })
        .collect();
    let texts = Features::new(unit_rows(captions), DIM)?;
    let pictures = Features::new(unit_rows(pictures), DIM)?;
    let matches = Matches::of_owners(&owners, images)?;
    let call = || -> Result<[Option<f64>; 2]> {
        let ranks = rank(&texts, &pictures, &matches, &|_| ())?;
        Ok([&ranks.texts, &ranks.images].map(|ranks| recall_at(ranks, 5, Ties::Stable)))
    };
    let begun = Instant::now();
    let ready = json!({"items": 1, "unit": "evaluations", "recall": call()?});
    serve(arguments, begun, ready, || {
        black_box(call()?);
        Ok(())
    })
}

fn unit_rows(mut values: Vec<f32>) -> Vec<f32> {
    for row in values.chunks_mut(DIM) {
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter_mut().for_each(|x| *x /= norm);
    }
    values
}

fn load<B: Backend>(arguments: &Arguments, device: &B::Device) -> Result<Pretrained<B>> {
    let options = LoadOptions {
        precision: arguments.compute.precision,
        ..LoadOptions::default()
    };
    Ok(Pretrained::<B>::load(&arguments.model, &options, device)?)
}

fn first<B: Backend>(value: Tensor<B, 1>) -> Result<f32> {
    let data = value.into_data();
    data.iter::<f32>().next().context("an empty loss")
}

/// Says that it is ready, and answers standard input.
fn serve(
    arguments: &Arguments,
    begun: Instant,
    ready: Value,
    mut call: impl FnMut() -> Result<()>,
) -> Result<()> {
    while begun.elapsed().as_secs_f64() < WARM_UP {
        call()?;
    }
    let mut ready = ready;
    ready["ready"] = json!(true);
    println!("{ready}");
    for line in std::io::stdin().lines() {
        line?;
        let (mut times, mut total) = (Vec::new(), 0.0);
        while times.is_empty() || total < arguments.seconds {
            let start = Instant::now();
            call()?;
            let time = start.elapsed().as_secs_f64();
            total += time;
            times.push(time);
        }
        println!("{}", json!({"seconds": times}));
    }
    println!("{}", json!({"peak_kib": peak_kib()}));
    Ok(())
}

/// Largest resident memory of this process so far (Linux).
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// SplitMix64 of a place: inputs that every side makes by itself, to the last bit the same.
fn bits(at: usize) -> u64 {
    let mut z = (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// In [-2, 2), 24 bits.
fn float(at: usize) -> f32 {
    (bits(at) >> 40) as f32 / (1u32 << 22) as f32 - 2.0
}

/// Texts of 9 to 18 tokens as far as they fit: start, words, end, zeros.
fn ids(n: usize, context_length: usize) -> TokenBatch {
    let mut ids = vec![0; n * context_length];
    for (row, text) in ids.chunks_exact_mut(context_length).enumerate() {
        let end = (8 + row % 10).min(context_length - 1);
        for (at, id) in text[..end].iter_mut().enumerate() {
            let word = bits(row * context_length + at) % (START_OF_TEXT_ID as u64 - 1);
            *id = word as i32 + 1;
        }
        text[0] = START_OF_TEXT_ID;
        text[end] = END_OF_TEXT_ID;
    }
    TokenBatch {
        ids,
        n,
        context_length,
    }
}
