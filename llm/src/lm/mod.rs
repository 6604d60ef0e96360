//! Losses of language modelling: pure functions of hidden states and the head's matrix.
//!
//! What they predict are tokens at chosen places ([`Predictions`]): the next token of every position, or the masked ones
//! of masked next-token prediction ([`Masking`]). Hidden states are gathered before the head sees them.

mod loss;
mod masking;
mod pack;
mod predictions;

pub use loss::{cross_entropy, cross_entropy_value};
pub use masking::{Masked, Masking};
pub use pack::pack;
pub use predictions::Predictions;
