//! An exact scan: every row against every query, in parallel over blocks of rows.
//!
//! The sum of a product has one order on a machine, whatever the row's place, the number of queries and the threads, so equal
//! rows have equal scores and ties go to the lower row.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::top::{Hit, Top};
use crate::error::{EvalError, Result};
use crate::features::Features;

/// Rows that a thread takes at a time.
const BLOCK: usize = 1024;

/// The `k` rows of the highest cosine with each query, best first; of equal cosines the lower row. Rows and queries of any
/// length are taken as unit vectors; a zero row has cosine 0.
///
/// # Errors
///
/// If queries and rows differ in width, and for a row or a query that holds a NaN or an infinity.
pub fn nearest(rows: &Features, queries: &Features, k: usize) -> Result<Vec<Vec<Hit>>> {
    let dim = rows.dim();
    if queries.dim() != dim {
        let reason = format!(
            "rows have {dim} numbers, queries {}; use the model that the rows were made with",
            queries.dim()
        );
        return Err(EvalError::Features(reason));
    }
    queries.check_finite("query")?;
    let mut unit = vec![0.0; queries.len() * dim];
    for (query, out) in unit.chunks_exact_mut(dim).enumerate() {
        queries.copy_unit_row(query, out);
    }
    let found = (0..rows.len().div_ceil(BLOCK))
        .into_par_iter()
        .fold(
            || Scan::new(queries.len(), k),
            |mut scan, block| {
                let first = block * BLOCK;
                Arch::new().dispatch(Rows {
                    rows,
                    range: first..(first + BLOCK).min(rows.len()),
                    queries: &unit,
                    scan: &mut scan,
                });
                scan
            },
        )
        .reduce(|| Scan::new(queries.len(), k), Scan::merge);
    if let Some(row) = found.bad {
        let reason = format!("row {row} is not finite, so nothing can be ranked; embed it again");
        return Err(EvalError::Features(reason));
    }
    Ok(found.best.into_iter().map(Top::into_hits).collect())
}

/// What a thread has found so far.
struct Scan {
    /// Of each query.
    best: Vec<Top>,
    /// The first row that is not finite.
    bad: Option<usize>,
}

impl Scan {
    fn new(queries: usize, k: usize) -> Self {
        Self {
            best: vec![Top::new(k); queries],
            bad: None,
        }
    }

    fn merge(self, other: Self) -> Self {
        let best = self.best.into_iter().zip(other.best);
        Self {
            best: best.map(|(a, b)| a.merge(b)).collect(),
            bad: [self.bad, other.bad].into_iter().flatten().min(),
        }
    }
}

/// Some rows against all queries, compiled for the vectors of this CPU.
struct Rows<'a> {
    rows: &'a Features,
    range: Range<usize>,
    /// Unit vectors.
    queries: &'a [f32],
    scan: &'a mut Scan,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let dim = self.rows.dim();
        let mut row = vec![0.0; dim];
        for place in self.range {
            self.rows.copy_row(place, &mut row);
            let squares = dot(simd, &row, &row);
            if !squares.is_finite() {
                let bad = &mut self.scan.bad;
                *bad = Some(bad.map_or(place, |bad| bad.min(place)));
                continue;
            }
            let scale = 1.0 / squares.sqrt().max(1e-12);
            for (best, query) in self
                .scan
                .best
                .iter_mut()
                .zip(self.queries.chunks_exact(dim))
            {
                let score = scale * dot(simd, &row, query);
                best.show(Hit { row: place, score });
            }
        }
    }
}

/// The sum of the products, in four vectors of partial sums: one alone would wait for itself.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((fours_a, ones_a), (fours_b, ones_b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let zero = simd.splat_f32s(0.0);
    let (mut s0, mut s1, mut s2, mut s3) = (zero, zero, zero, zero);
    for (a, b) in fours_a.iter().zip(fours_b) {
        s0 = simd.mul_add_e_f32s(a[0], b[0], s0);
        s1 = simd.mul_add_e_f32s(a[1], b[1], s1);
        s2 = simd.mul_add_e_f32s(a[2], b[2], s2);
        s3 = simd.mul_add_e_f32s(a[3], b[3], s3);
    }
    for (a, b) in ones_a.iter().zip(ones_b) {
        s0 = simd.mul_add_e_f32s(*a, *b, s0);
    }
    let sums = simd.add_f32s(simd.add_f32s(s0, s1), simd.add_f32s(s2, s3));
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    simd.reduce_sum_f32s(sums) + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};
    use rand::{Rng, SeedableRng};
    use safetensors::tensor::{Dtype, TensorView};

    fn random(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        (0..rows * dim)
            .map(|_| rng.random_range(-2.0..2.0))
            .collect()
    }

    /// Cosines in f64, all of them sorted.
    fn by_sorting(rows: &Features, query: &[f32]) -> Vec<Hit> {
        let product = |a: &[f32], b: &[f32]| -> f64 {
            let pairs = a.iter().zip(b);
            pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let norm = |a: &[f32]| product(a, a).sqrt().max(1e-12);
        let values = rows.to_vec();
        let scored = values.chunks(rows.dim()).enumerate().map(|(row, values)| {
            let score = product(values, query) / norm(values) / norm(query);
            Hit {
                row,
                score: score as f32,
            }
        });
        let mut scored: Vec<Hit> = scored.collect();
        scored.sort_by(|a, b| b.score.total_cmp(&a.score));
        scored
    }

    #[test]
    fn rows_are_found_that_a_plain_sort_of_all_cosines_puts_first() {
        for (rows, dim) in [(1, 1), (7, 3), (1025, 16), (3000, 37)] {
            let table = Features::new(random(rows, dim, 1), dim).unwrap();
            let queries = random(3, dim, 2);
            let found = nearest(&table, &Features::new(queries.clone(), dim).unwrap(), 12).unwrap();
            for (found, query) in found.iter().zip(queries.chunks(dim)) {
                let expected = by_sorting(&table, query);
                assert_eq!(found.len(), rows.min(12));
                for (hit, expected) in found.iter().zip(&expected) {
                    assert!((hit.score - expected.score).abs() < 1e-5);
                    if dim > 1 {
                        assert_eq!(hit.row, expected.row, "{rows} rows of {dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn equal_rows_are_found_in_their_order_wherever_they_lie() {
        let dim = 19;
        let row = random(1, dim, 3);
        let mut values = random(5000, dim, 4);
        let places = [4999, 1024, 17, 1023, 3333];
        for place in places {
            values[place * dim..(place + 1) * dim].copy_from_slice(&row);
        }
        let table = Features::new(values, dim).unwrap();
        let query = Features::new(row.iter().map(|x| 5.0 * x).collect(), dim).unwrap();
        let found = nearest(&table, &query, 6).unwrap().remove(0);
        let rows: Vec<usize> = found.iter().map(|hit| hit.row).collect();
        assert_eq!(rows[..5], [17, 1023, 1024, 3333, 4999]);
        assert!(found[..5].iter().all(|hit| hit.score == found[0].score));
        assert!((found[0].score - 1.0).abs() < 1e-6 && found[5].score < 0.9);
    }

    #[test]
    fn half_floats_of_a_mapped_file_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.safetensors");
        // Exact in both types.
        let values = [1.0f32, 0.0, 3.0, 4.0, -2.0, 0.5];
        let as_f16 = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes());
        let as_bf16 = values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes());
        for (dtype, bytes) in [
            (Dtype::F16, as_f16.collect::<Vec<u8>>()),
            (Dtype::BF16, as_bf16.collect()),
        ] {
            let view = TensorView::new(dtype, vec![3, 2], &bytes).unwrap();
            let file = safetensors::serialize([("image_features", view)], None).unwrap();
            std::fs::write(&path, file).unwrap();
            let table = Features::open(&path, "image_features").unwrap();
            let query = Features::new(vec![0.0, 2.0], 2).unwrap();
            let found = nearest(&table, &query, 2).unwrap().remove(0);
            let rows: Vec<usize> = found.iter().map(|hit| hit.row).collect();
            assert_eq!(rows, [1, 2], "{dtype:?}");
            assert!((found[0].score - 0.8).abs() < 1e-6);
        }
    }

    #[test]
    fn another_width_and_numbers_that_are_none_are_refused() {
        let table = |values: &[f32]| Features::new(values.to_vec(), 2).unwrap();
        let fail = |rows: &Features, queries: &Features| {
            let refused = nearest(rows, queries, 1);
            refused.unwrap_err().to_string()
        };
        let good = table(&[1.0, 0.0, 0.0, 0.0]);
        let wide = Features::new(vec![1.0; 3], 3).unwrap();
        assert!(fail(&good, &wide).contains("rows have 2 numbers, queries 3"));
        let bad = table(&[1.0, 0.0, 0.0, f32::NAN, f32::INFINITY, 1.0]);
        assert!(fail(&bad, &good).contains("row 1 is not finite"));
        assert!(fail(&good, &table(&[f32::NAN, 0.0])).contains("query 0"));
        // A zero row is a row all the same.
        let found = nearest(&good, &table(&[-1.0, 0.0]), 1).unwrap().remove(0);
        assert_eq!(found, [Hit { row: 1, score: 0.0 }]);
        assert!(
            nearest(&good, &Features::new(vec![], 2).unwrap(), 1)
                .unwrap()
                .is_empty()
        );
    }
}
