//! From gradients to weights.

pub mod adamw;
pub mod ema;
pub mod flat;
pub mod gradients;
pub mod logit_scale;
pub mod schedule;

pub use adamw::{AdamWConfig, GroupedAdamW};
pub use ema::Ema;
pub use gradients::Gradients;
pub use schedule::{Curve, Schedule, ScheduleConfig};
