//! Checkpoints are written by a thread of their own while training goes on.

use super::{Checkpoints, Saved};
use crate::error::{Result, TrainError};
use crate::trainer::task::Trained;
use std::path::PathBuf;
use std::thread::JoinHandle;

/// Writes one checkpoint at a time.
#[derive(Debug)]
pub struct Writer {
    checkpoints: Checkpoints,
    running: Option<JoinHandle<Result<PathBuf>>>,
}

impl Writer {
    /// Writes below the folder of `checkpoints`.
    pub fn new(checkpoints: Checkpoints) -> Self {
        Self {
            checkpoints,
            running: None,
        }
    }

    /// Begins to write. Waits for the checkpoint before, and gives what became of it.
    pub fn begin<M: Trained>(
        &mut self,
        saved: Saved,
        model: M,
        recipe: String,
    ) -> Option<Result<PathBuf>> {
        let before = self.wait();
        let checkpoints = self.checkpoints.clone();
        let write = move || checkpoints.save(&saved, &model, &recipe);
        self.running = Some(std::thread::spawn(write));
        before
    }

    /// What became of the last checkpoint, once, if its writing has ended.
    pub fn ended(&mut self) -> Option<Result<PathBuf>> {
        match &self.running {
            Some(running) if running.is_finished() => self.wait(),
            _ => None,
        }
    }

    /// What became of the last checkpoint, once; waits for its end.
    pub fn wait(&mut self) -> Option<Result<PathBuf>> {
        let ended = self.running.take()?.join();
        Some(ended.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or(panic.downcast_ref::<&str>().copied());
            Err(TrainError::Task {
                what: "writing a checkpoint",
                source: said.unwrap_or("the writer panicked").into(),
            })
        }))
    }
}

impl Drop for Writer {
    /// A run that ends with an error still completes the checkpoint it has begun.
    fn drop(&mut self) {
        self.wait();
    }
}
