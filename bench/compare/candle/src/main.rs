//! One piece of work of `bench/compare/compare.py` by candle, timed whenever standard input asks for it.
//!
//! `compare-candle WORK --data DIR [--model NAME] [--batch N] [--seconds S] [--texts FILE]`, WORK being encode_image, encode_text
//! or tokenize. It answers as `peers.py` does. candle's CLIP knows QuickGELU only, whatever the model's configuration says.

use std::collections::HashMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::clip::text_model::{Activation, ClipTextConfig};
use candle_transformers::models::clip::vision_model::ClipVisionConfig;
use candle_transformers::models::clip::{ClipConfig, ClipModel};
use serde_json::{Value, json};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

/// Seconds of calls before anything counts; one call at least.
const WARM_UP: f64 = 0.5;
/// Rows that are compared with the other sides'.
const SHOWN: usize = 8;
const START: u32 = 49_406;
const END: u32 = 49_407;
const CONTEXT: usize = 77;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let work = words.next().context("which work?")?;
    let mut options = HashMap::new();
    while let Some(name) = words.next() {
        let value = words.next().with_context(|| format!("{name}: no value"))?;
        options.insert(name.trim_start_matches("--").to_owned(), value);
    }
    let options = Options(options);
    match work.as_str() {
        "encode_image" | "encode_text" => encode(&work, &options),
        "tokenize" => tokenize(&options),
        _ => bail!("`{work}` is not encode_image, encode_text or tokenize"),
    }
}

struct Options(HashMap<String, String>);

impl Options {
    fn get(&self, name: &str) -> Result<&str> {
        let value = self.0.get(name);
        value
            .map(String::as_str)
            .with_context(|| format!("--{name} is missing"))
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(PathBuf::from(self.get(name)?))
    }
}

fn encode(work: &str, options: &Options) -> Result<()> {
    let device = Device::Cpu;
    let folder = options.path("data")?.join(options.get("model")?);
    let n: usize = options.get("batch")?.parse()?;
    let config = config(&folder)?;
    let files = [folder.join("model.safetensors")];
    // SAFETY: nobody writes the file while it is mapped.
    let weights = unsafe { VarBuilder::from_mmaped_safetensors(&files, DType::F32, &device)? };
    let model = ClipModel::new(weights, &config)?;
    let images = work == "encode_image";
    let input = if images {
        let side = config.image_size;
        let values: Vec<f32> = (0..n * 3 * side * side).map(float).collect();
        Tensor::from_vec(values, (n, 3, side, side), &device)?
    } else {
        let context = config.text_config.max_position_embeddings;
        Tensor::from_vec(ids(n, context), (n, context), &device)?
    };
    let features = || -> Result<Vec<Vec<f32>>> {
        let rows = match images {
            true => model.get_image_features(&input)?,
            false => model.get_text_features(&input)?,
        };
        Ok(rows.to_vec2()?)
    };
    let begun = Instant::now();
    let mut rows = features()?;
    rows.truncate(SHOWN);
    let unit = if images { "images" } else { "texts" };
    let ready = json!({"items": n, "unit": unit, "features": rows});
    serve(options, begun, ready, || {
        black_box(features()?);
        Ok(())
    })
}

/// The architecture in open_clip's schema as candle wants it.
fn config(folder: &Path) -> Result<ClipConfig> {
    let file = folder.join("open_clip.json");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let config: Value = serde_json::from_str(&text)?;
    let number = |value: &Value| -> Result<usize> {
        let number = value.as_u64().with_context(|| format!("{value}"));
        Ok(number.with_context(|| file.display().to_string())? as usize)
    };
    let (vision, text) = (&config["vision_cfg"], &config["text_cfg"]);
    let projection_dim = number(&config["embed_dim"])?;
    let (width, text_width) = (number(&vision["width"])?, number(&text["width"])?);
    let image_size = number(&vision["image_size"])?;
    Ok(ClipConfig {
        text_config: ClipTextConfig {
            vocab_size: number(&text["vocab_size"])?,
            embed_dim: text_width,
            activation: Activation::QuickGelu,
            intermediate_size: 4 * text_width,
            max_position_embeddings: number(&text["context_length"])?,
            pad_with: None,
            num_hidden_layers: number(&text["layers"])?,
            num_attention_heads: number(&text["heads"])?,
            projection_dim,
        },
        vision_config: ClipVisionConfig {
            embed_dim: width,
            activation: Activation::QuickGelu,
            intermediate_size: 4 * width,
            num_hidden_layers: number(&vision["layers"])?,
            num_attention_heads: width / vision["head_width"].as_u64().unwrap_or(64) as usize,
            projection_dim,
            num_channels: 3,
            image_size,
            patch_size: number(&vision["patch_size"])?,
        },
        logit_scale_init_value: 2.6592,
        image_size,
    })
}

fn tokenize(options: &Options) -> Result<()> {
    let file = options.path("data")?.join("tokenizer/tokenizer.json");
    let mut tokenizer = Tokenizer::from_file(&file).map_err(|error| anyhow!(error))?;
    let truncation = TruncationParams {
        max_length: CONTEXT,
        ..TruncationParams::default()
    };
    let padding = PaddingParams {
        strategy: PaddingStrategy::Fixed(CONTEXT),
        pad_id: END,
        pad_token: "<|endoftext|>".to_owned(),
        ..PaddingParams::default()
    };
    tokenizer
        .with_truncation(Some(truncation))
        .map_err(|error| anyhow!(error))?
        .with_padding(Some(padding));
    let texts = std::fs::read_to_string(options.path("texts")?)?;
    let texts: Vec<&str> = texts.lines().collect();
    let call = || -> Result<Vec<u32>> {
        let rows = tokenizer.encode_batch_fast(texts.clone(), true);
        let rows = rows.map_err(|error| anyhow!(error))?;
        Ok(rows.iter().flat_map(|row| row.get_ids()).copied().collect())
    };
    let begun = Instant::now();
    let fingerprint: i64 = call()?.chunks(CONTEXT).map(fingerprint).sum();
    let ready = json!({"items": texts.len(), "unit": "captions", "fingerprint": fingerprint});
    serve(options, begun, ready, || {
        black_box(call()?);
        Ok(())
    })
}

/// A number that is equal where the ids up to the end of a text are.
fn fingerprint(row: &[u32]) -> i64 {
    let end = row.iter().position(|&id| id == END);
    let text = &row[..end.map_or(row.len(), |end| end + 1)];
    let places = text.iter().zip(1i64..);
    places.map(|(&id, place)| i64::from(id) * place).sum()
}

/// Says that it is ready, and answers standard input.
fn serve(
    options: &Options,
    begun: Instant,
    mut ready: Value,
    mut call: impl FnMut() -> Result<()>,
) -> Result<()> {
    let seconds: f64 = options.get("seconds")?.parse()?;
    while begun.elapsed().as_secs_f64() < WARM_UP {
        call()?;
    }
    ready["ready"] = json!(true);
    println!("{ready}");
    for line in std::io::stdin().lines() {
        line?;
        let (mut times, mut total) = (Vec::new(), 0.0);
        while times.is_empty() || total < seconds {
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
fn ids(n: usize, context: usize) -> Vec<u32> {
    let mut ids = vec![0; n * context];
    for (row, text) in ids.chunks_exact_mut(context).enumerate() {
        let end = (8 + row % 10).min(context - 1);
        for (at, id) in text[..end].iter_mut().enumerate() {
            *id = (bits(row * context + at) % u64::from(START - 1)) as u32 + 1;
        }
        text[0] = START;
        text[end] = END;
    }
    ids
}
