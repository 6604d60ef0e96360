//! How long processes take to tell each other things: the constants of docs/scale-out.md.
//!
//! `mpirun -n 2 target/release/examples/exchange` (built with `--features mpi`)

use anyhow::Result;
use clip_burn::dist::{Flags, World};
use std::time::Instant;

const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let mpi = clip_burn::mpi::start(None)?;
    let median = |work: &mut dyn FnMut() -> Result<()>| -> Result<f64> {
        let mut seconds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            mpi.agree(Flags::default())?; // all begin together
            let start = Instant::now();
            work()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[ROUNDS / 2])
    };
    let say = |what: &str, seconds: f64, floats: usize| {
        if mpi.rank() == 0 {
            let rate = 4.0 * floats as f64 / seconds / 1e9;
            let size = mpi.size();
            println!(
                "{size} processes, {what}: {:.2} ms, {rate:.2} GB/s",
                1e3 * seconds
            );
        }
    };
    let agree = median(&mut || Ok(mpi.agree(Flags::default()).map(drop)?))?;
    if mpi.rank() == 0 {
        println!("{} processes, agree: {:.3} ms", mpi.size(), 1e3 * agree);
    }
    let mut gradients = vec![1.0; 1 << 24];
    let n = gradients.len();
    let seconds = median(&mut || Ok(mpi.all_reduce(&mut gradients)?))?;
    say("all-reduce of 64 MiB", seconds, n);
    let rows = vec![1.0; 4096 * 512];
    let seconds = median(&mut || Ok(mpi.all_gather(&rows).map(drop)?))?;
    say(
        "all-gather of 4096 × 512 each",
        seconds,
        rows.len() * mpi.size(),
    );
    let all = vec![1.0; 4096 * 512 * mpi.size()];
    let seconds = median(&mut || Ok(mpi.reduce_scatter(&all).map(drop)?))?;
    say("reduce-scatter of the same", seconds, all.len());
    clip_burn::mpi::leave(true);
    Ok(())
}
