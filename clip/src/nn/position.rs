/// The fixed two-dimensional sine-cosine table of MAE (He et al., 2022): half of the channels for the column,
/// half for the row, each as sines then cosines. The class token's row is zero.
///
/// Returns `(1 + grid²) × width` values, row by row; `width` is a multiple of four.
pub fn sin_cos_2d(width: usize, grid: usize) -> Vec<f32> {
    let bands = width / 4;
    let encode = |position: usize| {
        let angle = move |band: usize| position as f64 / 10_000f64.powf(band as f64 / bands as f64);
        let sines = (0..bands).map(move |band| angle(band).sin() as f32);
        sines.chain((0..bands).map(move |band| angle(band).cos() as f32))
    };
    let mut table = vec![0.0; width];
    for row in 0..grid {
        for column in 0..grid {
            table.extend(encode(column));
            table.extend(encode(row));
        }
    }
    table
}
