//! Ranks of right answers in image and text retrieval, without ever holding the score matrix.
//!
//! With unit rows, the rank of a query is the number of wrong items that score above its best right item, plus those of
//! equal score and lower index. A first pass scores the right pairs; a second pass streams tiles of all scores and
//! counts, for texts and images at once. Memory is one block of tiles plus a few numbers per item.

mod count;
mod matches;

use rayon::prelude::*;

use crate::error::{EvalError, Result};
use crate::features::Features;
use crate::metrics::scores::{TILE, Tile, blocks, scores};

pub use self::count::Rank;
use self::count::{Best, Counts, Table};
pub use self::matches::Matches;

/// Tiles of images kept at once; 16 tiles of 768 floats are 25 MB.
const GROUP: usize = 16;

/// How an exact tie of a right and a wrong item is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ties {
    /// The lower index wins.
    #[default]
    Stable,
    /// The right item wins.
    Optimistic,
    /// The wrong item wins.
    Pessimistic,
}

impl Rank {
    /// Position from 0.
    pub fn position(self, ties: Ties) -> usize {
        let behind = match ties {
            Ties::Stable => self.before,
            Ties::Optimistic => 0,
            Ties::Pessimistic => self.tied,
        };
        (self.greater + behind) as usize
    }
}

/// Ranks in both directions; `None` for an item that has no right answer (a distractor).
#[derive(Clone, Debug, PartialEq)]
pub struct Ranks {
    /// Of each text among the images: image retrieval.
    pub texts: Vec<Option<Rank>>,
    /// Of each image among the texts: text retrieval.
    pub images: Vec<Option<Rank>>,
}

/// Ranks every text among the images and every image among the texts. Rows need not be of unit length.
///
/// `progress` is called with the number of scores computed since its last call.
pub fn rank(
    texts: &Features,
    images: &Features,
    matches: &Matches,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Ranks> {
    rank_in_groups(texts, images, matches, progress, GROUP)
}

fn rank_in_groups(
    texts: &Features,
    images: &Features,
    matches: &Matches,
    progress: &(dyn Fn(u64) + Sync),
    group: usize,
) -> Result<Ranks> {
    check(texts, images, matches)?;
    let (best_of_text, best_of_image) = best_right_items(texts, images, matches);
    let counts = |n: usize| (0..n).map(|_| Counts::default()).collect::<Vec<_>>();
    let (text_counts, image_counts) = (counts(texts.len()), counts(images.len()));
    let image_blocks: Vec<_> = blocks(images.len()).collect();
    let text_blocks: Vec<_> = blocks(texts.len()).collect();
    for image_group in image_blocks.chunks(group) {
        let tiles: Vec<_> = image_group
            .par_iter()
            .map(|b| Tile::of(images, b.clone()))
            .collect();
        text_blocks.par_iter().for_each_init(
            || vec![0.0; TILE * TILE],
            |out, text_block| {
                let queries = Tile::of(texts, text_block.clone());
                for (tile, image_block) in tiles.iter().zip(image_group) {
                    scores(&queries, tile, out);
                    let (t, i) = (text_block.start, image_block.start);
                    let table = Table {
                        scores: out,
                        rows: queries.len(),
                        columns: tile.len(),
                    };
                    let (rows, columns) = (&best_of_text[t..], &best_of_image[i..]);
                    table.count_rows(rows, i, &text_counts[t..], |text, image| {
                        matches
                            .images_of(t + text)
                            .binary_search(&(image as u32))
                            .is_ok()
                    });
                    table.count_columns(columns, t, &image_counts[i..], |image, text| {
                        matches
                            .texts_of(i + image)
                            .binary_search(&(text as u32))
                            .is_ok()
                    });
                    progress((queries.len() * tile.len()) as u64);
                }
            },
        );
    }
    let ranks = |counts: Vec<Counts>, best: &[Best]| {
        let known = counts.into_iter().zip(best);
        known
            .map(|(c, best)| best.score.is_finite().then(|| c.into_rank()))
            .collect()
    };
    Ok(Ranks {
        texts: ranks(text_counts, &best_of_text),
        images: ranks(image_counts, &best_of_image),
    })
}

fn check(texts: &Features, images: &Features, matches: &Matches) -> Result<()> {
    let problem = if texts.dim() != images.dim() {
        format!(
            "texts have {} dimensions, images {}",
            texts.dim(),
            images.dim()
        )
    } else if texts.len() != matches.texts() {
        format!("{} text rows for {} texts", texts.len(), matches.texts())
    } else if images.len() != matches.images() {
        format!(
            "{} image rows for {} images",
            images.len(),
            matches.images()
        )
    } else {
        texts.check_finite("text")?;
        return images.check_finite("image");
    };
    Err(EvalError::Features(problem))
}

/// Scores the right pairs through the same tiles as everything else, so that they equal themselves later.
fn best_right_items(
    texts: &Features,
    images: &Features,
    matches: &Matches,
) -> (Vec<Best>, Vec<Best>) {
    let pairs: Vec<(u32, u32)> = matches.pairs().collect();
    let scored: Vec<f32> = pairs
        .par_chunks(TILE)
        .map_init(
            || vec![0.0; TILE * TILE],
            |out, chunk| {
                let rows = Tile::of(texts, chunk.iter().map(|p| p.0 as usize));
                let columns = Tile::of(images, chunk.iter().map(|p| p.1 as usize));
                scores(&rows, &columns, out);
                (0..chunk.len())
                    .map(|d| out[d * TILE + d])
                    .collect::<Vec<_>>()
            },
        )
        .flatten_iter()
        .collect();
    let mut of_text = vec![Best::NONE; matches.texts()];
    let mut of_image = vec![Best::NONE; matches.images()];
    for (&(text, image), &score) in pairs.iter().zip(&scored) {
        of_text[text as usize].offer(score, image as usize);
        of_image[image as usize].offer(score, text as usize);
    }
    (of_text, of_image)
}

/// Share of queries whose right item is among the `k` best. `None` if no query has a right item.
pub fn recall_at(ranks: &[Option<Rank>], k: usize, ties: Ties) -> Option<f64> {
    let known = ranks.iter().flatten().count();
    let hits = ranks
        .iter()
        .flatten()
        .filter(|rank| rank.position(ties) < k)
        .count();
    (known > 0).then(|| hits as f64 / known as f64)
}

/// Mean rank, from 1 (open_clip's `mean_rank`).
pub fn mean_rank(ranks: &[Option<Rank>], ties: Ties) -> Option<f64> {
    let positions: Vec<f64> = ranks
        .iter()
        .flatten()
        .map(|r| r.position(ties) as f64)
        .collect();
    (!positions.is_empty()).then(|| positions.iter().sum::<f64>() / positions.len() as f64 + 1.0)
}

/// Median rank, from 1, rounded down as in open_clip.
pub fn median_rank(ranks: &[Option<Rank>], ties: Ties) -> Option<usize> {
    let mut positions: Vec<usize> = ranks.iter().flatten().map(|r| r.position(ties)).collect();
    positions.sort_unstable();
    let middle = positions.len() / 2;
    match positions.len() {
        0 => None,
        n if n % 2 == 1 => Some(positions[middle] + 1),
        _ => Some((positions[middle - 1] + positions[middle]) / 2 + 1),
    }
}

/// Queries that have a wrong item of exactly the score of their best right item.
pub fn ties(ranks: &[Option<Rank>]) -> usize {
    ranks.iter().flatten().filter(|rank| rank.tied > 0).count()
}

/// The `k` best items of the gallery for each query with their scores; of equal scores the lower index first.
pub fn top_k(queries: &Features, gallery: &Features, k: usize) -> Vec<Vec<(usize, f32)>> {
    let mut best: Vec<Vec<(usize, f32)>> = vec![Vec::with_capacity(k + 1); queries.len()];
    let tiles: Vec<_> = blocks(queries.len())
        .map(|b| Tile::of(queries, b))
        .collect();
    for block in blocks(gallery.len()) {
        let items = Tile::of(gallery, block.clone());
        let lists = best.par_chunks_mut(TILE).zip(&tiles);
        lists.for_each_init(
            || vec![0.0; TILE * TILE],
            |out, (lists, tile)| {
                scores(tile, &items, out);
                for (list, scores) in lists.iter_mut().zip(out.chunks(TILE)) {
                    for (item, &score) in block.clone().zip(scores) {
                        let place = list.partition_point(|&(_, s)| s >= score);
                        if place < k {
                            list.insert(place, (item, score));
                            list.truncate(k);
                        }
                    }
                }
            },
        );
    }
    best
}

#[cfg(test)]
mod tests;
