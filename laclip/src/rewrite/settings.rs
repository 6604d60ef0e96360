//! What decides a rewrite: examples, prompt, sampling, lengths, seed.

use super::input::Scan;
use super::pool::Pool;
use super::prompt::{PromptForm, prompt, shorten};
use super::record::{INPUT_LINES, RunRecord};
use super::writer::Writer;
use crate::error::{Error, Result};
use llm::{Limits, Sampling};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// What takes the place of an empty rewrite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Empty {
    /// The caption itself.
    #[default]
    Original,
    /// An empty line, as the released code writes it; training on it then uses the caption.
    Blank,
}

impl std::str::FromStr for Empty {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "original" => Ok(Self::Original),
            "blank" => Ok(Self::Blank),
            _ => Err(format!("`{name}` is unknown; choose original or blank")),
        }
    }
}

impl std::fmt::Display for Empty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Original => "original",
            Self::Blank => "blank",
        })
    }
}

/// What decides a rewrite.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Examples of the style.
    pub pool: Pool,
    /// First line of the prompts.
    pub header: String,
    /// Layout of the prompts.
    pub form: PromptForm,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Lengths in tokens.
    pub limits: Limits,
    /// Of the examples and the draws.
    pub seed: u64,
    /// In place of an empty rewrite.
    pub empty: Empty,
}

impl Settings {
    pub(super) fn record(&self, input: &Scan) -> RunRecord {
        let empty = self.empty.to_string();
        RunRecord::default()
            .with("version", 2)
            .with(INPUT_LINES, input.lines)
            .with("input_bytes", input.bytes)
            .with("input_sha256", input.sha256.as_str())
            .with("mode", self.pool.name.as_str())
            .with("mode_examples", self.pool.fingerprint())
            .with("header", self.header.as_str())
            .with("prompt", self.form.to_string())
            .with("temperature", self.sampling.temperature)
            .with("top_p", self.sampling.top_p)
            .with("max_seq_len", self.limits.max_seq_len)
            .with("max_gen_len", self.limits.max_gen_len)
            .with("seed", self.seed)
            .with("on_empty", empty)
    }

    /// The prompt of a line, and the seed of its draws. Styles draw independently of one another: rewrites of one line in
    /// several styles shall differ in more than their examples' wording.
    pub fn prompt(&self, line: u64, caption: &str) -> (String, u64) {
        let mut key = Sha256::new_with_prefix(self.seed.to_le_bytes());
        key.update(self.pool.fingerprint());
        let mut rng = ChaCha8Rng::from_seed(key.finalize().into());
        rng.set_stream(line);
        let examples = self.pool.draw(&mut rng);
        (
            prompt(&self.header, &examples, caption, self.form),
            rng.random(),
        )
    }

    /// Refuses lengths that leave no room for a caption, or that the model cannot do.
    pub(super) fn check(&self, writer: &impl Writer) -> Result<()> {
        let without = prompt(&self.header, &self.pool.longest(), "", self.form);
        let (tokens, most) = (writer.encode(&without)?.len(), self.limits.max_seq_len);
        let longest = writer.longest();
        if let Some(longest) = longest.filter(|longest| *longest < most) {
            return Err(Error::Option {
                option: "max_seq_len",
                reason: format!(
                    "{most} is longer than the {longest} tokens that the model was trained for; give {longest} or less"
                ),
            });
        }
        if tokens + 10 > most {
            return Err(Error::Option {
                option: "max_seq_len",
                reason: format!(
                    "{most} is too short: the examples alone take up to {tokens} tokens, and the caption and its \
                     rewrite come on top; give {} or more",
                    tokens + 10 + 2 * self.limits.max_gen_len
                ),
            });
        }
        Ok(())
    }

    /// A prompt that leaves room for a few tokens, and whether it had to be cut for that.
    pub(super) fn fit(&self, text: String, writer: &impl Writer) -> Result<(String, bool)> {
        let most = self.limits.max_seq_len;
        let ids = writer.encode(&text)?;
        let Some(mut shorter) = shorten(&ids, most, |ids| writer.decode(ids)) else {
            return Ok((text, false));
        };
        // Half a character at the cut may have become several tokens.
        let mut room = most;
        while room > 10 && writer.encode(&shorter)?.len() >= most {
            room -= 10;
            shorter = shorten(&ids, room, |ids| writer.decode(ids)).unwrap_or(shorter);
        }
        Ok((shorter, true))
    }
}
