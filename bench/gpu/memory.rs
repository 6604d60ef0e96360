//! Peak memory of the GPU, as `nvidia-smi` sees it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks at the memory of the first GPU a few times per second.
pub struct Peak {
    before: Option<u64>,
    largest: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    /// Starts to look.
    pub fn watch() -> Self {
        let before = used();
        let (largest, done) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, stop) = (largest.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while before.is_some() && !stop.load(Ordering::Relaxed) {
                seen.fetch_max(used().unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self {
            before,
            largest,
            done,
            thread,
        }
    }

    /// MiB above what was in use at the start, the CUDA context included; `None` without `nvidia-smi`.
    pub fn mib(self) -> Option<u64> {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().ok()?;
        let largest = self.largest.load(Ordering::Relaxed);
        self.before.map(|before| largest.saturating_sub(before))
    }
}

fn used() -> Option<u64> {
    let query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
    let output = Command::new("nvidia-smi").args(query).output().ok()?;
    String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .next()?
        .trim()
        .parse()
        .ok()
}
