//! A method of your own: CyCLIP's loss (Goel et al., 2022) on web captions and rewrites.
//!
//! `cargo run --bin cyclic -- [FIELD=VALUE ...]`: trains as `cyclic.toml` says, but for the fields that are given.

use anyhow::Result;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, backend::AutodiffBackend};
use clip_burn::clip::{Clip, loss::by_rows};
use clip_burn::data::Captions;
use clip_burn::train::{Contrastive, Launch, Losses, ModelTable};
use clip_burn::train::{Recipe, Section, TextChoice, train_clip};
use rand::{RngCore, seq::IteratorRandom};
use serde::{Deserialize, Serialize};
use std::{ops::Range, path::Path};

type Train = Autodiff<Flex>;

/// The recipe's `[method]`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// Weight of CyCLIP's two terms; 0 is plain CLIP.
    weight: f64,
}

impl Section for Options {
    const NAME: &'static str = "method";
}

/// One text per visit of an image: its web captions and rewrites, all alike. `None` leaves the image out.
#[derive(Clone)]
struct WebOrRewrite;

impl TextChoice for WebOrRewrite {
    fn choose(&self, captions: &Captions, rng: &mut dyn RngCore) -> Option<Vec<String>> {
        let texts = captions.web.iter().chain(&captions.rewrites);
        let text = texts.filter(|text| !text.is_empty()).choose(rng)?;
        Some(vec![text.clone()])
    }
}

/// `Σ (a_i · b_j - c_i · d_j)² / n` over the rows `i` that are asked for and all `j`, a chunk of rows at a time.
///
/// # Shapes
///
/// - of: a, b, c and d, each `[n, embed_dim]`
/// - output: `[1]`
fn difference<B: AutodiffBackend>(rows: Range<usize>, of: [&Tensor<B, 2>; 4]) -> Tensor<B, 1> {
    let n = of[0].dims()[0];
    let of = of.map(Clone::clone).to_vec();
    let sum = by_rows::in_chunks(rows, by_rows::rows_of(n), of, vec![], |rows, of, _| {
        let cosines = |from: usize, to: usize| {
            let from = of[from].clone().narrow(0, rows.start, rows.len());
            from.matmul(of[to].clone().transpose())
        };
        (cosines(0, 1) - cosines(2, 3)).square().sum()
    });
    sum / n as f64
}

fn main() -> Result<()> {
    let settings: Vec<String> = std::env::args().skip(1).collect();
    let mut recipe = Recipe::load(Path::new("cyclic.toml"), &settings)?;
    let (Options { weight }, model): (_, ModelTable) = (recipe.section()?, recipe.section()?);
    let (device, out) = (Default::default(), recipe.out());
    let start = model.load::<Train>(recipe.run.seed, &device)?;

    let task = Contrastive::new(&start);
    let mut task = task.with_loss(move |model: &Clip<Train>, mut embeddings| {
        let rows = embeddings.rows();
        let (image, text) = (&embeddings.one("image")?, &embeddings.one("text")?);
        let scale = model.scale();
        let clip = by_rows::contrastive(rows.clone(), image.clone(), text.clone(), scale);
        let across = difference(rows.clone(), [image, text, text, image]);
        let within = difference(rows, [image, image, text, text]);
        let total = clip.clone() + (across.clone() + within.clone()) * weight;
        let parts = [("clip", clip), ("across", across), ("within", within)];
        let parts = parts.map(|(name, part)| (name.to_string(), part)).to_vec();
        Ok(Losses { total, parts })
    });
    task.by_rows = true; // the loss answers for `rows` alone: processes may share it

    let launch = Launch::latest();
    let trained = train_clip(recipe, start, &task, WebOrRewrite, &launch, device)?;
    println!(
        "{:.0} s; the model: {}/model",
        trained.seconds,
        out.display()
    );
    Ok(())
}
