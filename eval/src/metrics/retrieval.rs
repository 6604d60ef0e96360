//! Ranks of right answers in image and text retrieval, without ever holding the score matrix.
//!
//! With unit rows, the rank of a query is the number of wrong items that score above its best right item, plus those of
//! equal score and lower index. A first pass scores the right pairs; a second pass streams tiles of all scores and
//! counts, for texts and images at once. Memory is one block of tiles plus a few numbers per item.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rayon::prelude::*;

use crate::error::{EvalError, Result};
use crate::features::Features;
use crate::metrics::scores::{TILE, Tile, blocks, scores};

/// Tiles of images kept at once; 16 tiles of 768 floats are 25 MB.
const GROUP: usize = 16;

/// Which texts and images belong together. Any number on either side.
#[derive(Clone, Debug, PartialEq)]
pub struct Matches {
    by_text: Lists,
    by_image: Lists,
}

/// Sorted lists of items, one list per owner.
#[derive(Clone, Debug, PartialEq)]
struct Lists {
    ends: Vec<usize>,
    items: Vec<u32>,
}

impl Lists {
    /// From pairs sorted by owner, then by item.
    fn from_sorted(owners: usize, pairs: impl Iterator<Item = (u32, u32)>) -> Self {
        let mut lists = Self {
            ends: vec![0; owners],
            items: Vec::new(),
        };
        for (owner, item) in pairs {
            lists.items.push(item);
            lists.ends[owner as usize] = lists.items.len();
        }
        let mut end = 0;
        for e in &mut lists.ends {
            end = end.max(*e);
            *e = end;
        }
        lists
    }

    fn of(&self, owner: usize) -> &[u32] {
        let start = owner
            .checked_sub(1)
            .map_or(0, |previous| self.ends[previous]);
        &self.items[start..self.ends[owner]]
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

impl Matches {
    /// From (text, image) pairs in any order. Fails if a pair names an item that does not exist.
    pub fn new(texts: usize, images: usize, mut pairs: Vec<(u32, u32)>) -> Result<Self> {
        if let Some((t, i)) = pairs
            .iter()
            .find(|(t, i)| *t as usize >= texts || *i as usize >= images)
        {
            let reason =
                format!("text {t} is matched to image {i}, but there are {texts} and {images}");
            return Err(EvalError::Features(reason));
        }
        pairs.sort_unstable();
        pairs.dedup();
        let by_text = Lists::from_sorted(texts, pairs.iter().copied());
        pairs.sort_unstable_by_key(|&(text, image)| (image, text));
        let by_image = Lists::from_sorted(images, pairs.iter().map(|&(text, image)| (image, text)));
        Ok(Self { by_text, by_image })
    }

    /// One owner image per text: `owners[text]` is an image.
    pub fn of_owners(owners: &[usize], images: usize) -> Result<Self> {
        let pairs = owners
            .iter()
            .enumerate()
            .map(|(text, &image)| (text as u32, image as u32));
        Self::new(owners.len(), images, pairs.collect())
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.by_text.len()
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.by_image.len()
    }

    /// Images of a text, ascending.
    pub fn images_of(&self, text: usize) -> &[u32] {
        self.by_text.of(text)
    }

    /// Texts of an image, ascending.
    pub fn texts_of(&self, image: usize) -> &[u32] {
        self.by_image.of(image)
    }

    /// All (text, image) pairs, by text.
    pub fn pairs(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        (0..self.texts()).flat_map(|t| self.images_of(t).iter().map(move |&i| (t as u32, i)))
    }
}

/// Where the best right item of a query stands in its gallery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rank {
    /// Items that score higher.
    pub greater: u32,
    /// Wrong items of exactly the same score with a lower index.
    pub before: u32,
    /// Wrong items of exactly the same score.
    pub tied: u32,
}

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

/// The right item with the highest score; the lowest index among equals. Infinite if there is no right item.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    item: usize,
}

impl Best {
    const NONE: Self = Self {
        score: f32::INFINITY,
        item: 0,
    };

    /// Items arrive in ascending order, so that of equal scores the first stays.
    fn offer(&mut self, score: f32, item: usize) {
        if self.score == f32::INFINITY || score > self.score {
            *self = Self { score, item };
        }
    }
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

/// Shared between threads; sums of integers come out the same in any order.
#[derive(Default)]
struct Counts {
    greater: AtomicU32,
    before: AtomicU32,
    tied: AtomicU32,
}

impl Counts {
    fn into_rank(self) -> Rank {
        let [greater, before, tied] =
            [self.greater, self.before, self.tied].map(AtomicU32::into_inner);
        Rank {
            greater,
            before,
            tied,
        }
    }

    /// Adds a wrong item of equal score.
    fn add_tie(&self, item: usize, best: usize) {
        self.tied.fetch_add(1, Relaxed);
        self.before.fetch_add(u32::from(item < best), Relaxed);
    }
}

/// The filled part of one tile of scores.
struct Table<'a> {
    scores: &'a [f32],
    rows: usize,
    columns: usize,
}

impl Table<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.scores[row * TILE..row * TILE + self.columns]
    }

    /// Rows are queries, column `c` is the item `first + c`.
    fn count_rows(
        &self,
        best: &[Best],
        first: usize,
        counts: &[Counts],
        is_right: impl Fn(usize, usize) -> bool,
    ) {
        for row in 0..self.rows {
            let Best { score, item } = best[row];
            let (mut greater, mut equal) = (0u32, 0u32);
            for &s in self.row(row) {
                greater += u32::from(s > score);
                equal += u32::from(s == score);
            }
            counts[row].greater.fetch_add(greater, Relaxed);
            if equal > 0 {
                let ties = self
                    .row(row)
                    .iter()
                    .zip(first..)
                    .filter(|(s, _)| **s == score);
                for (_, tied) in ties.filter(|&(_, tied)| !is_right(row, tied)) {
                    counts[row].add_tie(tied, item);
                }
            }
        }
    }

    /// Columns are queries, row `r` is the item `first + r`.
    fn count_columns(
        &self,
        best: &[Best],
        first: usize,
        counts: &[Counts],
        is_right: impl Fn(usize, usize) -> bool,
    ) {
        let (mut greater, mut equal, mut limits) = ([0u32; TILE], [0u32; TILE], [0f32; TILE]);
        for (limit, best) in limits.iter_mut().zip(best) {
            *limit = best.score;
        }
        for row in 0..self.rows {
            let columns = greater.iter_mut().zip(&mut equal).zip(&limits);
            for (&s, ((greater, equal), &limit)) in self.row(row).iter().zip(columns) {
                *greater += u32::from(s > limit);
                *equal += u32::from(s == limit);
            }
        }
        for column in 0..self.columns {
            counts[column].greater.fetch_add(greater[column], Relaxed);
            if equal[column] > 0 {
                let ties = (0..self.rows).filter(|&r| self.row(r)[column] == limits[column]);
                for tied in ties
                    .map(|r| first + r)
                    .filter(|&tied| !is_right(column, tied))
                {
                    counts[column].add_tie(tied, best[column].item);
                }
            }
        }
    }
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
