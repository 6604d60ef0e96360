//! Peak memory of a loss over all pairs, forward and backward, above its inputs.
//!
//! `cargo run --release --example loss_memory -- softmax 32768 512`

use anyhow::{Context, Result, bail};
use burn::backend::{Autodiff, Flex};
use burn::prelude::*;
use clip_burn::clip::loss::{self, by_rows};
use std::time::Instant;

type Train = Autodiff<Flex>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (form, n, dim, of) = match arguments.as_slice() {
        [form, n, dim] => (form, n, dim, "1"),
        [form, n, dim, of] => (form, n, dim, of.as_str()),
        _ => bail!("arguments: softmax|sigmoid|plain N DIM [REPLICAS]"),
    };
    let (n, dim, of): (usize, usize, usize) = (n.parse()?, dim.parse()?, of.parse()?);
    let own = 0..n / of.max(1);
    let device = Default::default();
    let rows = |seed: f32| {
        let values = (0..n * dim).map(|i| (i as f32 * 0.7 + seed).sin() / (dim as f32).sqrt());
        let data = TensorData::new(values.collect::<Vec<_>>(), [n, dim]);
        Tensor::<Train, 2>::from_data(data, &device).require_grad()
    };
    let (image, text) = (rows(1.0), rows(2.0));
    let scalar = |value: f32| Tensor::<Train, 1>::from_data([value], &device).require_grad();
    std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory")?;
    let before = mib("VmRSS")?;
    let start = Instant::now();
    let loss = match form.as_str() {
        "softmax" => by_rows::contrastive(own, image.clone(), text.clone(), scalar(14.0)),
        "sigmoid" => by_rows::sigmoid(
            0..n,
            image.clone(),
            text.clone(),
            scalar(10.0),
            scalar(-10.0),
        ),
        "plain" => loss::contrastive(image.clone(), text.clone(), scalar(14.0)),
        other => bail!("`{other}` is none of softmax, sigmoid, plain"),
    };
    let value = loss.clone().into_scalar();
    let grads = loss.backward();
    let gradient = image.grad(&grads).context("no gradient")?;
    let largest = gradient.abs().max().into_scalar();
    println!(
        "{form} {n} × {dim}, the rows of one of {of}: peak {:.0} MiB above its inputs ({before:.0} MiB in use before), {:.1} s, loss {value}, \
         largest gradient {largest:e}",
        mib("VmHWM")? - before,
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// A field of this process's status.
fn mib(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
    Ok(kib.context("no such field")?.parse::<f64>()? / 1024.0)
}
