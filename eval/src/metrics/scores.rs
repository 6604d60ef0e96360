//! Cosine scores, tile by tile, with one property that ranks rest on: the score of a pair is the same to the last bit
//! wherever the pair lies in a table and however the table is cut.
//!
//! Matrix kernels choose their blocking, and with it their order of summation, by the shape they are called with.
//! Here every call has the same shape: tiles of [`TILE`] × [`TILE`], the rest padded with zero rows.

use gemm::Parallelism;

use crate::features::Features;

/// Rows of a tile on either side.
pub const TILE: usize = 512;

/// Unit rows of up to [`TILE`] items, zero-padded to the full tile.
pub struct Tile {
    rows: Vec<f32>,
    dim: usize,
    len: usize,
}

impl Tile {
    /// The unit rows of the given items, in order.
    ///
    /// # Panics
    ///
    /// Panics if there are more than [`TILE`] items or one is out of range.
    pub fn of(features: &Features, items: impl IntoIterator<Item = usize>) -> Self {
        let dim = features.dim();
        let mut rows = vec![0.0; TILE * dim];
        let mut len = 0;
        for item in items {
            features.copy_unit_row(item, &mut rows[len * dim..(len + 1) * dim]);
            len += 1;
        }
        Self { rows, dim, len }
    }

    /// Number of items, at most [`TILE`].
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if the tile holds no item.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Writes the scores of all pairs of two tiles into `out`, row-major `[TILE, TILE]`.
///
/// # Panics
///
/// Panics if the tiles differ in dimension or `out` is not of `TILE * TILE` floats.
pub fn scores(rows: &Tile, columns: &Tile, out: &mut [f32]) {
    let dim = rows.dim;
    assert_eq!(dim, columns.dim, "tiles of different dimension");
    assert_eq!(out.len(), TILE * TILE);
    assert!(rows.rows.len() == TILE * dim && columns.rows.len() == TILE * dim);
    let (tile, stride) = (TILE as isize, dim as isize);
    // SAFETY: both operands hold TILE rows of `dim` floats and `out` holds TILE² floats, as asserted; the strides
    // below stay within them, and `out` is borrowed exclusively.
    #[allow(unsafe_code)]
    unsafe {
        gemm::gemm(
            TILE,
            TILE,
            dim,
            out.as_mut_ptr(),
            1,
            tile,
            false,
            rows.rows.as_ptr(),
            1,
            stride,
            columns.rows.as_ptr(),
            stride,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Calls `visit(row, scores)` for every row of `rows` against all of `columns`, in order. Holds one block of rows.
pub fn for_each_row(rows: &Features, columns: &Features, mut visit: impl FnMut(usize, &[f32])) {
    let tiles: Vec<Tile> = blocks(columns.len())
        .map(|b| Tile::of(columns, b))
        .collect();
    let mut out = vec![0.0; TILE * TILE];
    let mut block_scores = vec![0.0; TILE * columns.len()];
    for block in blocks(rows.len()) {
        let queries = Tile::of(rows, block.clone());
        for (tile, first) in tiles.iter().zip((0..).step_by(TILE)) {
            scores(&queries, tile, &mut out);
            for row in 0..queries.len() {
                let to = row * columns.len() + first;
                block_scores[to..to + tile.len()]
                    .copy_from_slice(&out[row * TILE..row * TILE + tile.len()]);
            }
        }
        for (row, scores) in block.zip(block_scores.chunks_exact(columns.len().max(1))) {
            visit(row, scores);
        }
    }
}

/// `0..len` cut into ranges of [`TILE`].
pub fn blocks(len: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    (0..len)
        .step_by(TILE)
        .map(move |first| first..(first + TILE).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    #[test]
    fn the_score_of_a_pair_has_the_same_bits_at_every_place_of_a_tile() {
        for dim in [1, 2, 3, 17, 64, 513, 768] {
            let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(dim as u64);
            let row: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
            let column: Vec<f32> = (0..dim).map(|_| rng.random_range(-1.0..1.0)).collect();
            let rows = Features::new(row.repeat(TILE), dim).unwrap();
            let columns = Features::new(column.repeat(TILE), dim).unwrap();
            let mut out = vec![0.0; TILE * TILE];
            scores(
                &Tile::of(&rows, 0..TILE),
                &Tile::of(&columns, 0..TILE),
                &mut out,
            );
            assert!(
                out.iter().all(|s| s.to_bits() == out[0].to_bits()),
                "dim {dim}"
            );
            scores(&Tile::of(&rows, 0..1), &Tile::of(&columns, 0..7), &mut out);
            let first = out[0];
            scores(
                &Tile::of(&rows, 0..400),
                &Tile::of(&columns, 0..300),
                &mut out,
            );
            assert_eq!(
                first.to_bits(),
                out[299].to_bits(),
                "dim {dim}, padded tile"
            );
        }
    }

    #[test]
    fn scores_are_cosines() {
        let a = Features::new(vec![3.0, 4.0, -1.0, 0.0], 2).unwrap();
        let b = Features::new(vec![1.0, 0.0, 0.0, 2.0, 4.0, 3.0], 2).unwrap();
        let mut seen = Vec::new();
        for_each_row(&a, &b, |row, scores| seen.push((row, scores.to_vec())));
        let expected = [[0.6, 0.8, 0.96], [-1.0, 0.0, -0.8]];
        for ((_, got), want) in seen.iter().zip(&expected) {
            assert!(
                got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6),
                "{got:?}"
            );
        }
    }
}
