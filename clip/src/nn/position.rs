/// The fixed two-dimensional sine-cosine table of MAE (He et al., 2022) and open_clip: half of the channels for the
/// column, half for the row, each as sines then cosines. The class token's row is zero.
///
/// Returns `(1 + grid²) × width` values, row by row; `width` is a multiple of four.
pub fn sin_cos_2d(width: usize, grid: usize) -> Vec<f32> {
    table(width, [grid; 2], width / 4)
}

/// The table of MoCo v3 (Chen et al., 2021), CLIPA and CLIPS: as [`sin_cos_2d`], but the slowest wave has a period of
/// exactly 10000 steps.
///
/// Returns `(1 + grid²) × width` values, row by row; `width` is a multiple of four and at least eight.
pub fn sin_cos_2d_moco(width: usize, grid: usize) -> Vec<f32> {
    moco_table(width, [grid; 2])
}

/// [`sin_cos_2d_moco`] for any number of rows and columns.
pub(crate) fn moco_table(width: usize, grid: [usize; 2]) -> Vec<f32> {
    table(width, grid, width / 4 - 1)
}

/// Frequencies fall by 10000 in `steps` bands.
fn table(width: usize, [rows, columns]: [usize; 2], steps: usize) -> Vec<f32> {
    let bands = width / 4;
    let encode = |position: usize| {
        let angle = move |band: usize| position as f64 / 10_000f64.powf(band as f64 / steps as f64);
        let sines = (0..bands).map(move |band| angle(band).sin() as f32);
        sines.chain((0..bands).map(move |band| angle(band).cos() as f32))
    };
    let mut table = vec![0.0; width];
    for row in 0..rows {
        for column in 0..columns {
            table.extend(encode(column));
            table.extend(encode(row));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of CLIPA's JAX code, by hand.
    #[test]
    fn the_table_of_clips_divides_by_one_band_less() {
        let at =
            |table: &[f32], row: usize, width: usize, column: usize| table[row * width + column];
        let table = sin_cos_2d_moco(1024, 16);
        for (row, column, expected) in [
            (0, 5, 0.0),
            (2, 0, 0.841471),
            (2, 1, 0.821779),
            (2, 256, 0.540302),
            (2, 512, 0.0),
            (2, 768, 1.0),
            (17, 0, 0.0),
            (17, 256, 1.0),
            (17, 512, 0.841471),
            (17, 768, 0.540302),
            (256, 0, 0.650288),
            (256, 256, -0.759688),
        ] {
            let got = at(&table, row, 1024, column);
            assert!((got - expected).abs() < 1e-6, "{row} {column}: {got}");
        }
        let table = sin_cos_2d_moco(1024, 24);
        assert!((at(&table, 576, 1024, 0) + 0.846220).abs() < 1e-6);
        assert!((at(&table, 576, 1024, 256) + 0.532833).abs() < 1e-6);
        assert!((at(&sin_cos_2d_moco(1280, 16), 2, 1280, 1) - 0.825755).abs() < 1e-6);
        assert!((at(&sin_cos_2d(1024, 16), 2, 1024, 1) - 0.821856).abs() < 1e-6);
    }
}
