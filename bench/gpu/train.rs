use crate::memory::Peak;
use crate::time::{median, seconds, sync};
use anyhow::Result;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip_burn::cli::ComputeArgs;
use clip_burn::clip::preprocess::{PixelBatch, PreprocessConfig};
use clip_burn::clip::tokenizer::TokenBatch;
use clip_burn::clip::{Clip, LoadOptions, Pretrained};
use clip_burn::train::optimizer::{AdamWConfig, Gradients, GroupedAdamW, logit_scale};
use clip_burn::train::parameters::groups::{Groups, GroupsConfig};
use clip_burn::train::parameters::parameters;
use clip_burn::train::parameters::stable_ids::with_stable_ids;
use clip_burn::train::trainer::collective::Single;
use clip_burn::train::trainer::step::{StepOptions, step};
use clip_burn::train::{BoxError, Contrastive, ImageTextBatch, Pass, Task};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::time::Instant;

/// Steps before anything is timed: kernels are compiled and tuned in them.
const WARM_UP: usize = 5;
/// Steps whose parts are timed one by one.
const SPLIT: usize = 10;
const LOOPS: usize = 3;
const FITS: &str = "the batch fits the model, as the warm-up has shown";

#[derive(clap::Args)]
pub struct Arguments {
    /// Preset or model directory
    #[arg(long, default_value = "ViT-B-32")]
    model: String,
    /// Image-text pairs per step
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,
    /// Recomputes residual blocks on the way back
    #[arg(long)]
    replay: bool,
    /// Steps per timed loop; the median of three loops counts
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

pub fn run<B: AutodiffBackend>(
    arguments: &Arguments,
    device: &Device<B::InnerBackend>,
) -> Result<()> {
    let peak = Peak::watch();
    let options = LoadOptions {
        precision: arguments.compute.precision,
        ..LoadOptions::default()
    };
    let start = Pretrained::<B>::load(&arguments.model, &options, device)?;
    let batch = batch(&start, arguments.batch_size as usize);
    let mut training = Training::<B>::new(start, arguments.replay, device)?;

    let first = Instant::now();
    for _ in 0..WARM_UP {
        training.step(&batch)?;
    }
    sync::<B>(device)?;
    let warm_up = first.elapsed().as_secs_f64();

    let steps = arguments.steps as usize;
    let mut plain = Vec::new();
    let mut checked = Vec::new();
    for _ in 0..LOOPS {
        let work = || (0..steps).for_each(|_| drop(training.step(&batch).expect(FITS)));
        plain.push(seconds::<B, _>(device, work)?.1);
        // As the training loop does by default: the loss is read in every step.
        let work = || (0..steps).for_each(|_| drop(training.step(&batch).expect(FITS).into_data()));
        checked.push(seconds::<B, _>(device, work)?.1);
    }
    let mut split = vec![Vec::new(); 4];
    if !arguments.replay {
        for _ in 0..SPLIT {
            let times = training.split_step(&batch)?;
            split
                .iter_mut()
                .zip(times)
                .for_each(|(all, time)| all.push(time));
        }
    }
    let ms = |part: usize| {
        Some(split[part].clone())
            .filter(|t| !t.is_empty())
            .map(|t| 1e3 * median(t))
    };
    let samples = (steps * arguments.batch_size as usize) as f64;
    let rate = samples / median(plain);
    let fields = json!({
        "model": arguments.model,
        "batch": arguments.batch_size,
        "replay": arguments.replay,
        "samples_per_s": rate,
        "samples_per_s_checked": samples / median(checked),
        "step_ms": 1e3 * f64::from(arguments.batch_size) / rate,
        "upload_ms": ms(0),
        "forward_ms": ms(1),
        "backward_ms": ms(2),
        "optimizer_ms": ms(3),
        "warm_up_s": warm_up,
        "peak_mib": peak.mib(),
    });
    crate::report("train", &arguments.compute, fields);
    Ok(())
}

/// Random images and texts of the model's sizes, in host memory.
fn batch<B: Backend>(of: &Pretrained<B>, n: usize) -> ImageTextBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let [height, width] = of.preprocess.config().size;
    let mut pixels = vec![0; n * height * width * 3];
    rng.fill(&mut pixels[..]);
    let context = of.config.text_cfg.context_length;
    let end = of.config.text_cfg.vocab_size as i32 - 1;
    let ids = (0..n * context).map(|at| match at % context {
        last if last + 1 == context => end,
        _ => rng.random_range(1..end),
    });
    ImageTextBatch {
        texts: vec![TokenBatch {
            ids: ids.collect(),
            n,
            context_length: context,
        }],
        pixels: PixelBatch {
            pixels: pixels.into(),
            n,
            height,
            width,
        },
    }
}

/// One step of the engine, without its logs and checkpoints.
struct Training<B: AutodiffBackend> {
    task: Contrastive,
    preprocess: PreprocessConfig,
    /// Taken out for the moment in which the optimizer owns it.
    model: Option<Clip<B>>,
    optimizer: GroupedAdamW<B>,
    options: StepOptions,
    device: B::Device,
}

impl<B: AutodiffBackend> Training<B> {
    fn new(start: Pretrained<B>, replay: bool, device: &B::Device) -> Result<Self> {
        let task = Contrastive::new(&start);
        let preprocess = start.preprocess.config().clone();
        let model = with_stable_ids(start.model)?;
        let groups = Groups::new(&GroupsConfig::default(), parameters(&model))?;
        Ok(Self {
            task,
            preprocess,
            model: Some(model),
            optimizer: GroupedAdamW::new(AdamWConfig::default(), &groups),
            options: StepOptions {
                replay,
                seed: 0,
                ..StepOptions::default()
            },
            device: device.clone(),
        })
    }

    /// A whole step; the loss is still on the device.
    fn step(&mut self, batch: &ImageTextBatch) -> Result<Tensor<B::InnerBackend, 1>> {
        let model = self.model.take().expect("given back by update");
        let batches = std::slice::from_ref(batch);
        let mut step = step(
            &self.task,
            &model,
            batches,
            self.options,
            &Single,
            &self.device,
        )?;
        self.update(model, &mut step.gradients);
        Ok(step.loss)
    }

    fn update(&mut self, model: Clip<B>, gradients: &mut Gradients<B::InnerBackend>) {
        let norm = gradients.norm().expect("all parameters have gradients");
        gradients.clip(norm, 1.0);
        let model = self.optimizer.step(5e-4, model, gradients);
        self.model = Some(logit_scale::clamp::<B, _>(model, [0.0, 100f64.ln()]));
    }

    /// Seconds of upload, forward, backward and optimizer, each waited for.
    fn split_step(&mut self, batch: &ImageTextBatch) -> Result<[f64; 4]> {
        let model = self.model.take().expect("given back by update");
        let device = self.device.clone();
        let (_, upload) = seconds::<B, _>(&device, || {
            batch
                .pixels
                .clone()
                .to_tensor::<B>(&self.preprocess, &device)
        })?;
        let (loss, forward) = seconds::<B, _>(&device, || {
            let mut pass = Pass::plain(&device, 0);
            let embedded = self.task.embed(&model, batch, &mut pass)?;
            Ok::<_, BoxError>(self.task.loss(&model, embedded.embeddings)?.total)
        })?;
        let loss = loss.map_err(anyhow::Error::from_boxed)?;
        let (mut gradients, backward) =
            seconds::<B, _>(&device, || Gradients::take(&mut loss.backward(), &model))?;
        let (_, optimizer) = seconds::<B, _>(&device, || self.update(model, &mut gradients))?;
        Ok([upload, forward - upload, backward, optimizer])
    }
}
