//! Times of work that a device does later.

use anyhow::{Result, anyhow};
use burn::prelude::*;
use clip_burn::train::trainer::sound;
use std::time::Instant;

/// Waits for the device, and says what has gone wrong on it.
pub fn sync<B: Backend>(device: &B::Device) -> Result<()> {
    let synced = B::sync(device);
    sound::check()?;
    synced.map_err(|e| anyhow!("the device failed: {e}"))
}

/// Seconds of `work`, until the device has done it.
pub fn seconds<B: Backend, T>(device: &B::Device, work: impl FnOnce() -> T) -> Result<(T, f64)> {
    let start = Instant::now();
    let result = work();
    sync::<B>(device)?;
    Ok((result, start.elapsed().as_secs_f64()))
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
