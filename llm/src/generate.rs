//! Continuations of a ragged batch of prompts.
//!
//! Rows begin at position 0 together, without padding. All rows are fed up to the end of the shortest prompt at
//! once, then one position at a time: a row whose prompt is longer takes its own next token, any other the token
//! that was drawn for it. When half of the rows have ended, the others go on without them.

use crate::error::{Error, Result};
use crate::model::Llama;
use crate::nn::Cache;
use crate::sampling::Sampling;
use burn::prelude::*;
use burn::tensor::TensorData;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// What is to be continued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Token ids, the id that begins a text included.
    pub ids: Vec<u32>,
    /// Seed of this row's draws, so that they do not depend on the other rows.
    pub seed: u64,
}

/// How to continue.
#[derive(Clone, Copy)]
pub struct GenerateOptions<'a> {
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens per row at most.
    pub max_gen_len: usize,
    /// Tokens of a prompt and its continuation at most.
    pub max_seq_len: usize,
    /// Ids that end a row; they are not part of its continuation.
    pub eos: &'a [u32],
    /// Whether a row is at its end, given its continuation so far.
    pub stop: &'a (dyn Fn(&[u32]) -> bool + Sync),
}

/// Why a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The model ended it.
    Eos,
    /// The caller's `stop` did.
    Stop,
    /// One of the lengths was reached.
    Length,
}

/// The continuation of one prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Token ids after the prompt.
    pub ids: Vec<u32>,
    /// Why there are no more.
    pub end: End,
}

/// A continuation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The text of the new tokens.
    pub text: String,
    /// How many they are.
    pub tokens: usize,
    /// Why there are no more.
    pub end: End,
}

struct Row {
    /// Index of the prompt.
    place: usize,
    /// Prompt and continuation.
    ids: Vec<u32>,
    prompt: usize,
    limit: usize,
    rng: ChaCha8Rng,
    end: Option<End>,
}

/// Continues every prompt. A row is a function of its prompt, its seed and the options, apart from how sums are
/// rounded in batches of other shapes.
///
/// # Errors
///
/// Says which prompt is empty, too long or not of the model's vocabulary; or that the logits are not finite.
pub fn generate<B: Backend>(
    model: &Llama<B>,
    prompts: &[Prompt],
    options: &GenerateOptions,
    device: &Device<B>,
) -> Result<Vec<Generated>> {
    options.sampling.check()?;
    check_prompts(model, prompts, options)?;
    let row = |(place, prompt)| Row::new(place, prompt, options);
    let mut rows: Vec<Row> = prompts.iter().enumerate().map(row).collect();
    let mut ended = Vec::new();
    let longest = rows.iter().map(|row| row.limit).max().unwrap_or(0);
    let mut cache = model.cache(longest);
    // Up to where every row that goes on knows its tokens.
    while let Some(known) = rows
        .iter()
        .filter(|row| row.end.is_none())
        .map(|row| row.ids.len())
        .min()
    {
        set_aside(&mut rows, &mut ended, &mut cache, device);
        let at = cache.len();
        let hidden = model
            .model
            .extend(ids(&rows, at, known, device), &mut cache);
        if rows.iter().all(|row| !row.draws_at(known)) {
            continue;
        }
        let last = hidden.narrow(1, known - at - 1, 1);
        let logits = model.head(last).into_data().convert::<f32>();
        let logits: Vec<f32> = logits.into_vec().expect("converted to f32");
        let vocab = logits.len() / rows.len();
        rows.par_iter_mut()
            .zip(logits.par_chunks(vocab))
            .filter(|(row, _)| row.draws_at(known))
            .try_for_each(|(row, logits)| row.step(logits, options))?;
    }
    ended.append(&mut rows);
    ended.sort_by_key(|row| row.place);
    Ok(ended.into_iter().map(Row::finish).collect())
}

/// Takes rows that have ended out of the batch, once they are half of it.
fn set_aside<B: Backend>(
    rows: &mut Vec<Row>,
    ended: &mut Vec<Row>,
    cache: &mut Cache<B>,
    device: &Device<B>,
) {
    let goes_on = |row: &Row| row.end.is_none();
    let kept: Vec<usize> = (0..rows.len()).filter(|i| goes_on(&rows[*i])).collect();
    if 2 * kept.len() > rows.len() {
        return;
    }
    cache.keep(&kept, device);
    let (still, done): (Vec<_>, Vec<_>) = std::mem::take(rows).into_iter().partition(goes_on);
    *rows = still;
    ended.extend(done);
}

impl Row {
    fn new(place: usize, prompt: &Prompt, options: &GenerateOptions) -> Self {
        let len = prompt.ids.len();
        let limit = options.max_seq_len.min(len + options.max_gen_len);
        Self {
            place,
            ids: prompt.ids.clone(),
            prompt: len,
            limit,
            rng: ChaCha8Rng::seed_from_u64(prompt.seed),
            end: (len >= limit).then_some(End::Length),
        }
    }

    /// Whether the token at this position is to be drawn.
    fn draws_at(&self, position: usize) -> bool {
        self.end.is_none() && self.ids.len() == position
    }

    fn step(&mut self, logits: &[f32], options: &GenerateOptions) -> Result<()> {
        let position = self.ids.len() - 1;
        let id = options.sampling.draw(logits, &mut self.rng);
        let id = id.ok_or(Error::NotFinite { position })?;
        if options.eos.contains(&id) {
            self.end = Some(End::Eos);
            return Ok(());
        }
        self.ids.push(id);
        if (options.stop)(&self.ids[self.prompt..]) {
            self.end = Some(End::Stop);
        } else if self.ids.len() == self.limit {
            self.end = Some(End::Length);
        }
        Ok(())
    }

    fn finish(mut self) -> Generated {
        Generated {
            ids: self.ids.split_off(self.prompt),
            end: self.end.unwrap_or(End::Length),
        }
    }
}

/// The tokens at positions `from..to`; rows that have ended are filled up, and nobody looks at them.
fn ids<B: Backend>(rows: &[Row], from: usize, to: usize, device: &Device<B>) -> Tensor<B, 2, Int> {
    let token = |row: &Row, at: usize| row.ids.get(at).map_or(0, |id| *id as i32);
    let ids: Vec<i32> = rows
        .iter()
        .flat_map(|row| (from..to).map(move |at| token(row, at)))
        .collect();
    Tensor::from_data(TensorData::new(ids, [rows.len(), to - from]), device)
}

fn check_prompts<B: Backend>(
    model: &Llama<B>,
    prompts: &[Prompt],
    options: &GenerateOptions,
) -> Result<()> {
    let vocab = model.model.embed_tokens.weight.dims()[0];
    for (i, Prompt { ids, .. }) in prompts.iter().enumerate() {
        if ids.is_empty() {
            return Err(Error::Options(format!(
                "prompt {i} has no token to begin with"
            )));
        }
        if ids.len() > options.max_seq_len {
            return Err(Error::Options(format!(
                "prompt {i} has {} tokens, more than the {} of a whole sequence",
                ids.len(),
                options.max_seq_len
            )));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Options(format!(
                "token id {id} of prompt {i} is beyond the model's vocabulary of {vocab}: \
                 the tokenizer belongs to another model"
            )));
        }
    }
    Ok(())
}
