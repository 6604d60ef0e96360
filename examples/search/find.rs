//! Queries → the images of an index that are nearest to them.

use anyhow::{Context, Result, bail};
use burn::backend::Autodiff;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clap::Args;
use clip_burn::backend::{Job, with_backend};
use clip_burn::cli::{ComputeArgs, LoadArgs, ModelArgs, check_writable};
use clip_burn::eval::report::{Found, Pictures, Sought, save_found};
use clip_burn::eval::search::Index;
use clip_burn::eval::{DualEncoder, Features, TextEncoder};
use clip_burn::models::Model;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of a search.
#[derive(Args)]
pub struct Find {
    /// What `search build` or `embed` wrote
    #[arg(long, required = true)]
    index: Option<PathBuf>,
    /// Words that describe the images
    #[arg(required_unless_present = "image")]
    queries: Vec<String>,
    /// A picture like the images; may be given several times
    #[arg(long)]
    image: Vec<PathBuf>,
    /// Images to find for each query
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// One JSON object per query in place of the table
    #[arg(long)]
    json: bool,
    /// A page with the pictures that were found; it needs no file beside it
    #[arg(long)]
    html: Option<PathBuf>,
    /// The model that the index was made with, where the index does not name it or it was moved: see `build`
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    loading: LoadArgs,
    #[command(flatten)]
    compute: ComputeArgs,
}

impl Find {
    pub fn run(self) -> Result<ExitCode> {
        self.compute.check()?;
        if let Some(html) = &self.html {
            check_writable(html)?;
        }
        let path = self.index.as_deref().context("--index is missing")?;
        let index = Index::open(path)?;
        if index.is_empty() {
            bail!("{}: no images in this index", path.display());
        }
        let model = self.model(&index)?;
        let compute = self.compute.clone();
        let job = Search {
            find: self,
            index,
            model,
        };
        with_backend(compute.backend, compute.precision, job)
    }

    /// The model that is named, or else the index's own.
    fn model(&self, index: &Index) -> Result<ModelArgs> {
        if let Some(model) = &self.model {
            return Ok(ModelArgs {
                model: model.clone(),
                loading: self.loading.clone(),
            });
        }
        let path = index.path().display();
        let Some(own) = index.model() else {
            bail!("{path}: does not say which model made it; give --model");
        };
        if self.loading != LoadArgs::default() {
            bail!(
                "options of the model need its name: give --model {} too",
                own.name
            );
        }
        let loading = serde_json::from_value(own.options.clone())
            .with_context(|| format!("{path}: options of its model; give --model {}", own.name))?;
        Ok(ModelArgs {
            model: own.name.clone(),
            loading,
        })
    }

    /// All queries, in the order of their embeddings.
    fn sought(&self) -> impl Iterator<Item = Sought> {
        let texts = self.queries.iter().cloned().map(Sought::Text);
        texts.chain(self.image.iter().cloned().map(Sought::Image))
    }

    /// # Shapes
    ///
    /// - output: `[texts and images, embed_dim]`
    fn embed<B: Backend>(&self, model: &Model<B>, device: &B::Device) -> Result<Features> {
        let mut rows = Vec::new();
        let mut append = |embedded: Tensor<B, 2>| {
            rows.extend(embedded.into_data().convert::<f32>().iter::<f32>());
        };
        if !self.queries.is_empty() {
            if let Some(cut @ 1..) = model.truncated(&self.queries) {
                eprintln!(
                    "{cut} of the texts are longer than the model reads; their ends have no say"
                );
            }
            append(model.encode_texts(&self.queries)?);
        }
        if !self.image.is_empty() {
            let (pixels, read) = model.preprocess().load_batch(&self.image);
            read.into_iter().collect::<Result<Vec<_>, _>>()?;
            append(model.encode_images(pixels.to_tensor(model.preprocess().config(), device)));
        }
        Ok(Features::new(rows, model.embed_dim())?)
    }
}

struct Search {
    find: Find,
    index: Index,
    model: ModelArgs,
}

impl Job for Search {
    type Out = Result<ExitCode>;

    fn run<B: Backend>(self, device: B::Device) -> Self::Out
    where
        Autodiff<B>: AutodiffBackend<InnerBackend = B>,
    {
        let Self { find, index, model } = self;
        let loaded = model.load::<B>(find.compute.precision, &device);
        let loaded = match &find.model {
            Some(_) => loaded?,
            None => loaded.with_context(|| {
                let index = index.path().display();
                format!(
                    "{index} was made with {}; if the model was moved, give --model",
                    model.model
                )
            })?,
        };
        index.check_model(&super::index_model(&model, &loaded)?)?;
        let queries = find.embed(&loaded, &device)?;
        let found: Vec<Found> = index
            .search(&queries, find.top_k as usize)?
            .into_iter()
            .zip(find.sought())
            .map(|(hits, sought)| Found {
                sought,
                hits: hits
                    .iter()
                    .map(|hit| (hit.row, index.image(hit.row), hit.score))
                    .collect(),
            })
            .collect();
        if let Some(html) = &find.html {
            save_found(&found, &Pictures::All, html)?;
        }
        for found in &found {
            match find.json {
                true => print_json(found),
                false => print_table(found),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn print_table(found: &Found) {
    match &found.sought {
        Sought::Text(text) => println!("{text}"),
        Sought::Image(path) => println!("{}", path.display()),
    }
    for (rank, (row, image, score)) in (1..).zip(&found.hits) {
        let name = image.as_ref().map(|path| path.display().to_string());
        println!(
            "{rank:5}  {score:7.4}  {}",
            name.unwrap_or(format!("row {row}"))
        );
    }
}

fn print_json(found: &Found) {
    let hits = (1..).zip(&found.hits);
    let hits: Vec<_> = hits
        .map(|(rank, (row, image, score)): (u32, _)| {
            let path = image.as_ref().map(|path| path.display().to_string());
            json!({ "rank": rank, "score": score, "path": path, "row": row })
        })
        .collect();
    let (kind, query) = match &found.sought {
        Sought::Text(text) => ("text", text.clone()),
        Sought::Image(path) => ("image", path.display().to_string()),
    };
    println!("{}", json!({ kind: query, "hits": hits }));
}
