//! How a run is started: all that is no part of its recipe.

use super::collective::{Collective, Direct};
use crate::error::{Result, TrainError};
use burn::tensor::backend::Backend;
use dist::{Single, World};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a run starts and what may stop it. The default starts anew and is stopped by nothing.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Where to start.
    pub start: Start,
    /// Goes on though the recipe differs from that of the checkpoint; what differs is told in the log.
    pub accept_changes: bool,
    /// Ends the run early, with a checkpoint.
    pub stop: Stop,
    /// Features of the build, for `state.json`.
    pub features: Vec<String>,
    /// The other replicas, each in a process of its own.
    pub world: Arc<dyn World>,
    /// A faster way to the other replicas for the tensors of one backend.
    pub direct: Option<Direct>,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            start: Start::default(),
            accept_changes: false,
            stop: Stop::default(),
            features: Vec::new(),
            world: Arc::new(Single),
            direct: None,
        }
    }
}

impl Launch {
    /// The other replicas, by the fastest way for the tensors of `B`.
    pub fn collective<B: Backend>(&self) -> &dyn Collective<B> {
        let direct = self.direct.as_ref().and_then(Direct::of::<B>);
        direct.unwrap_or(&self.world)
    }

    /// Continues from the latest checkpoint, if there is one.
    pub fn latest() -> Self {
        Self {
            start: Start::Latest,
            ..Self::default()
        }
    }
}

/// Where a run starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// At the given model; refused where the run's folder has checkpoints.
    #[default]
    New,
    /// At the latest intact checkpoint of the run's folder, or at the given model if there is none.
    Latest,
    /// At this checkpoint.
    Checkpoint(PathBuf),
}

impl From<&str> for Start {
    /// `latest`, or the folder of a checkpoint.
    fn from(text: &str) -> Self {
        match text {
            "latest" => Start::Latest,
            path => Start::Checkpoint(path.into()),
        }
    }
}

/// A switch that ends a run after its current step, of all replicas: a checkpoint is written, and the run can be resumed.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// A switch that SIGTERM and Ctrl-C turn on, of which a second one ends the process at once; and SIGUSR1, which
    /// `mpirun` hands on and schedulers send before the time is up.
    ///
    /// # Errors
    ///
    /// When the system refuses to hand over the signals.
    pub fn on_signals() -> Result<Self> {
        let stop = Self::default();
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
            // In this order: the first signal finds the switch off and turns it on, the second one finds it on.
            let again = signal_hook::flag::register_conditional_shutdown;
            again(signal, 128 + signal, stop.0.clone())
                .and_then(|_| signal_hook::flag::register(signal, stop.0.clone()))
                .map_err(|source| TrainError::Task {
                    what: "watching for SIGTERM and Ctrl-C",
                    source: source.into(),
                })?;
        }
        #[cfg(unix)]
        signal_hook::flag::register(signal_hook::consts::SIGUSR1, stop.0.clone()).map_err(
            |source| TrainError::Task {
                what: "watching for SIGUSR1",
                source: source.into(),
            },
        )?;
        Ok(stop)
    }

    /// Turns the switch on.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// True once it was turned on.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
