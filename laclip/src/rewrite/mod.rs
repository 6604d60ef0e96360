//! Captions → rewrites, one line each (section 3 of the paper).
//!
//! A language model that was never taught to follow instructions continues a prompt of three examples and the
//! caption. What it writes up to the end of the line is the rewrite.
//!
//! * [`Pool`]: the examples of a style
//! * [`prompt`]: the text that the model continues, and how its continuation is read
//! * [`Writer`]: the model; [`LlamaWriter`] is one
//! * [`run`]: a file of any length, line by line, which can be interrupted at any time, or a share of it; [`merge()`]

mod input;
mod llama;
mod merge;
mod output;
mod pool;
pub mod prompt;
mod record;
mod settings;
mod stream;
mod writer;

pub use llama::LlamaWriter;
pub use merge::{Merged, merge};
pub use pool::{EXAMPLES, Example, Pool, STYLES};
pub use prompt::{HEADER, PromptForm};
pub use record::RunRecord;
pub use settings::{Empty, Settings};
pub use stream::{Progress, Run, Summary, run};
pub use writer::{Writer, Written};
