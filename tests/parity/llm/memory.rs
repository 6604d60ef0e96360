//! How much memory a frozen base takes.

use burn::backend::{Autodiff, Flex};
use clip_burn::clip::Precision;
use clip_burn::llm::{
    Dropout, Encoder, EncoderOptions, LlamaConfig, LoadOptions, LoraConfig, Template, Tokenizer,
};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Memory of this process that belongs to no file, in MB.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes / 1024
}

#[test]
#[ignore = "writes a model of 1.1 GB to the temporary folder; reads /proc, so Linux alone, and alone in its process"]
fn a_bf16_base_of_a_gigabyte_is_in_memory_once_while_lora_is_trained() {
    type B = Autodiff<Flex>;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let device = Default::default();
    let config = LlamaConfig {
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 9,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        head_dim: 64,
        ..LlamaConfig::tiny(300)
    };
    let megabytes = config.encoder_parameters() * 2 / 1_000_000;
    write_constant_model(directory, &config);
    let options = LoadOptions {
        precision: Precision::Bf16,
        weights: Precision::Bf16,
    };
    let (before, peak) = (anonymous(), Arc::new(AtomicUsize::new(0)));
    let watcher = {
        let peak = Arc::downgrade(&peak);
        std::thread::spawn(move || {
            while let Some(peak) = peak.upgrade() {
                peak.fetch_max(anonymous(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        })
    };
    let framing = Some(EncoderOptions::new(Template::none()));
    let encoder = Encoder::<B>::load(directory, framing, &options, &device).unwrap();
    let loaded = peak.load(Ordering::Relaxed) - before;
    let model = encoder
        .model
        .with_lora(&LoraConfig::llm2clip(), 0, &device)
        .unwrap();
    let rows = encoder
        .options
        .rows(&encoder.tokenizer, [("", "a dog"), ("", "two cats")])
        .unwrap();
    let dropout = Dropout::of_rows(0, 0, 2);
    let context = encoder
        .options
        .context(&model, &rows, Some(dropout), &device);
    let hidden = model.run(rows.to_tensor(&device), &context);
    let grads = encoder.options.pooling.pool(hidden, &rows).sum().backward();
    let q_proj = &model.layers[0].self_attn.q_proj;
    assert!(q_proj.weight.val().grad(&grads).is_none());
    assert!(
        q_proj
            .lora
            .as_ref()
            .unwrap()
            .lora_b
            .val()
            .grad(&grads)
            .is_some()
    );
    let all = peak.load(Ordering::Relaxed) - before;
    drop(peak);
    watcher.join().unwrap();
    println!("base of {megabytes} MB: peak {loaded} MiB while loading, {all} MiB with a step");
    assert!(
        all < megabytes * 3 / 2,
        "{all} MiB for a base of {megabytes} MB"
    );
}

/// A model whose values are all 0.01, written piece by piece.
fn write_constant_model(directory: &Path, config: &LlamaConfig) {
    let mut shapes = Vec::new();
    let (width, inner) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (
        config.num_attention_heads * config.head_dim,
        config.num_key_value_heads * config.head_dim,
    );
    for layer in 0..config.num_hidden_layers {
        for (name, shape) in [
            ("self_attn.q_proj", vec![q, width]),
            ("self_attn.k_proj", vec![kv, width]),
            ("self_attn.v_proj", vec![kv, width]),
            ("self_attn.o_proj", vec![width, q]),
            ("mlp.gate_proj", vec![inner, width]),
            ("mlp.up_proj", vec![inner, width]),
            ("mlp.down_proj", vec![width, inner]),
            ("input_layernorm", vec![width]),
            ("post_attention_layernorm", vec![width]),
        ] {
            shapes.push((format!("layers.{layer}.{name}.weight"), shape));
        }
    }
    shapes.push(("embed_tokens.weight".into(), vec![config.vocab_size, width]));
    shapes.push(("norm.weight".into(), vec![width]));
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape) in &shapes {
        let end = at + 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let file = std::fs::File::create(directory.join("model.safetensors")).unwrap();
    let mut file = std::io::BufWriter::new(file);
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(&header).unwrap();
    let piece: Vec<u8> = [0x24, 0x3c].repeat(1 << 16); // 0.01 in bf16
    let mut left = at;
    while left > 0 {
        let len = left.min(piece.len());
        file.write_all(&piece[..len]).unwrap();
        left -= len;
    }
    file.flush().unwrap();
    let fields = config.to_hugging_face().to_string();
    std::fs::write(directory.join("config.json"), fields).unwrap();
    let tokenizer = Tokenizer::train(&["a dog and two cats", "a dog"], 300).unwrap();
    tokenizer.save(directory).unwrap();
}
