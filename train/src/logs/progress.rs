//! The progress bar.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar with the latest values; lines where standard error is no terminal.
pub struct ProgressLine {
    bar: ProgressBar,
}

impl ProgressLine {
    /// A bar over `total` steps that starts at `done`.
    pub fn new(visible: bool, total: u64, done: u64) -> Self {
        let bar = ProgressBar::new(total).with_position(done);
        let template = "{bar:24} {pos}/{len} [{elapsed_precise} < {eta_precise}] {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is valid"));
        if !visible {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        bar.reset_eta();
        Self { bar }
    }

    /// Moves to `step`.
    pub fn set(&self, step: u64) {
        self.bar.set_position(step);
    }

    /// Shows values beside the bar; where there is none, they are a line of their own.
    pub fn message(&self, text: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{text}"),
            false => self.bar.set_message(text.to_string()),
        }
    }

    /// Prints a line above the bar.
    pub fn print(&self, text: &str) {
        match self.bar.is_hidden() {
            true => eprintln!("{text}"),
            false => self.bar.println(text),
        }
    }

    /// Leaves the bar as it is.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}
