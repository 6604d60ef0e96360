//! Position embeddings for another image size or context length.

use super::naming::Scheme;
use super::state_dict::{HostTensor, StateDict};
use crate::config::{MAX_POSITIONS, ModelConfig};
use crate::nn::moco_table;
use crate::preprocess::resize_f32;

const VISION: &str = "visual.positional_embedding";
const TEXT: &str = "text.positional_embedding";

/// What the positions of a vision tower are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Positions {
    /// Trained, or not to be told from it.
    Learned,
    /// The table of [`crate::nn::sin_cos_2d_moco`], which was never trained and must stay as it is.
    Fixed,
}

/// Resizes the position tables of a checkpoint to those of the model, as its source does on load: open_clip and timm by
/// antialiased bicubic interpolation of the grid of patches, EVA-CLIP by PyTorch's plain one; linear for texts. Tables
/// that fit, cannot be a grid, or would become larger than any stay as they are, and the last are refused by their shape. A fixed table is computed for the new grid instead; configurations
/// call it learned, so it is known by its values.
pub(super) fn fit(dict: &mut StateDict, config: &ModelConfig, scheme: Scheme) -> Positions {
    let [height, width] = config.vision_cfg.image_size.sides();
    let patch = config.vision_cfg.patch_size;
    let prefix = usize::from(dict.get("visual.class_embedding").is_some());
    let mut positions = Positions::Learned;
    if let Some(table) = dict.remove(VISION) {
        let grid = [height / patch, width / patch];
        if prefix == 1 && is_fixed(&table) {
            positions = Positions::Fixed;
        }
        let resized = match positions {
            Positions::Learned => {
                let resize = match scheme {
                    Scheme::EvaClip => bicubic,
                    _ => resize_f32,
                };
                resize_grid(&table, prefix, grid, resize)
            }
            Positions::Fixed => recomputed(&table, grid),
        };
        dict.insert(VISION, resized.unwrap_or(table));
    }
    let rows = config.text_cfg.context_length + usize::from(config.text_cfg.embed_cls);
    if let Some(table) = dict.remove(TEXT) {
        let table = resize_rows(&table, rows).unwrap_or(table);
        dict.insert(TEXT, table);
    }
    positions
}

/// JAX computes angles up to some dozen radians in f32. One step of training moves a table further.
const ROUNDING: f32 = 1e-4;

fn is_fixed(table: &HostTensor) -> bool {
    let [rows, width] = *table.shape() else {
        return false;
    };
    let side = rows.saturating_sub(1).isqrt();
    if side == 0 || side * side + 1 != rows || width < 8 || !width.is_multiple_of(4) {
        return false;
    }
    let values = table.values();
    // Most learned tables differ in the first value.
    let mut pairs = values.iter().zip(moco_table(width, [side; 2]));
    pairs.all(|(got, expected)| (got - expected).abs() <= ROUNDING)
}

fn recomputed(table: &HostTensor, grid: [usize; 2]) -> Option<HostTensor> {
    let [rows, width] = *table.shape() else {
        return None;
    };
    let new = 1 + grid[0] * grid[1];
    let side = (rows - 1).isqrt();
    (grid != [side; 2] && new.saturating_mul(width) <= MAX_POSITIONS)
        .then(|| HostTensor::from_values(moco_table(width, grid), [new, width]))
}

/// `[rows, columns, width]` values at another number of rows and columns.
type Resize = fn(&[f32], [usize; 3], [usize; 2]) -> Vec<f32>;

/// The class token's row where there is one, then a square grid.
fn resize_grid(
    table: &HostTensor,
    prefix: usize,
    grid: [usize; 2],
    resize: Resize,
) -> Option<HostTensor> {
    let [rows, width] = *table.shape() else {
        return None;
    };
    let side = rows.checked_sub(prefix)?.isqrt();
    let empty = side == 0 || width == 0; // reported by its shape
    let large = (grid[0] * grid[1]).saturating_mul(width) > MAX_POSITIONS;
    if empty || large || rows == prefix + grid[0] * grid[1] || side * side + prefix != rows {
        return None;
    }
    let values = table.values();
    let (class, patches) = values.split_at(prefix * width);
    let mut resized = class.to_vec();
    resized.extend(resize(patches, [side, side, width], grid));
    Some(HostTensor::from_values(
        resized,
        [prefix + grid[0] * grid[1], width],
    ))
}

/// PyTorch's `interpolate(mode="bicubic", align_corners=False)` of `[rows, columns, width]` values.
fn bicubic(values: &[f32], [rows, columns, width]: [usize; 3], grid: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(grid[0] * grid[1] * width);
    for row in 0..grid[0] {
        for column in 0..grid[1] {
            let (y, x) = (taps(row, rows, grid[0]), taps(column, columns, grid[1]));
            let start = out.len();
            out.resize(start + width, 0.0);
            for (row, a) in y {
                for (column, b) in x {
                    let from = &values[(row * columns + column) * width..][..width];
                    let sum = out[start..].iter_mut().zip(from);
                    sum.for_each(|(sum, value)| *sum += a * b * value);
                }
            }
        }
    }
    out
}

/// The four neighbours of a position and their weights: the cubic convolution of Keys (1981) with a = -0.75, values
/// repeated at the border.
fn taps(at: usize, old: usize, new: usize) -> [(usize, f32); 4] {
    const A: f64 = -0.75;
    let centre = (at as f64 + 0.5) * old as f64 / new as f64 - 0.5;
    let low = centre.floor();
    let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let t = centre - low;
    let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
    [0, 1, 2, 3].map(|i| {
        let neighbour = low as i64 + i as i64 - 1;
        (
            neighbour.clamp(0, old as i64 - 1) as usize,
            weights[i] as f32,
        )
    })
}

/// PyTorch's `interpolate(mode="linear", align_corners=False)` over the whole table.
fn resize_rows(table: &HostTensor, rows: usize) -> Option<HostTensor> {
    let [old, width] = *table.shape() else {
        return None;
    };
    if old == rows || old == 0 || rows.saturating_mul(width) > MAX_POSITIONS {
        return None;
    }
    let values = table.values();
    let scale = old as f64 / rows as f64;
    let mut resized = Vec::with_capacity(rows * width);
    for row in 0..rows {
        let centre = ((row as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (centre as usize).min(old - 1);
        let high = (low + 1).min(old - 1);
        let weight = (centre - low as f64) as f32;
        resized.extend(
            (0..width).map(|i| {
                values[low * width + i] * (1.0 - weight) + values[high * width + i] * weight
            }),
        );
    }
    Some(HostTensor::from_values(resized, [rows, width]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ImageSize;
    use crate::nn::{sin_cos_2d, sin_cos_2d_moco};

    fn fitted(table: Vec<f32>, image_size: usize) -> (Positions, Vec<f32>) {
        let mut config = ModelConfig::preset("ViT-B-16").unwrap();
        config.vision_cfg.image_size = ImageSize::Square(image_size);
        let rows = table.len() / 16;
        let mut dict = StateDict::default();
        dict.insert(
            "visual.class_embedding",
            HostTensor::from_values(vec![0.0; 16], [16]),
        );
        dict.insert(VISION, HostTensor::from_values(table, [rows, 16]));
        let positions = fit(&mut dict, &config, Scheme::OpenClip);
        (positions, dict.get(VISION).unwrap().values())
    }

    #[test]
    fn a_fixed_table_is_known_by_its_values_and_computed_for_another_grid() {
        let (positions, values) = fitted(sin_cos_2d_moco(16, 4), 64);
        assert_eq!(
            (positions, values),
            (Positions::Fixed, sin_cos_2d_moco(16, 4))
        );
        let (positions, values) = fitted(sin_cos_2d_moco(16, 4), 96);
        assert_eq!(
            (positions, values),
            (Positions::Fixed, sin_cos_2d_moco(16, 6))
        );
    }

    #[test]
    fn a_small_wide_table_does_not_become_one_of_terabytes() {
        let mut config = ModelConfig::preset("tiny").unwrap();
        config.text_cfg.context_length = 8_192;
        let mut dict = StateDict::default();
        dict.insert(
            TEXT,
            HostTensor::from_values(vec![0.0; 1 << 15], [1, 1 << 15]),
        );
        fit(&mut dict, &config, Scheme::OpenClip);
        assert_eq!(dict.get(TEXT).unwrap().shape(), [1, 1 << 15]);
    }

    #[test]
    fn any_other_table_is_learned() {
        let mut moved = sin_cos_2d_moco(16, 4);
        moved[37] += 1e-3;
        for table in [moved, sin_cos_2d(16, 4), vec![0.0; 17 * 16]] {
            assert_eq!(fitted(table.clone(), 64), (Positions::Learned, table));
        }
    }

    /// torch.nn.functional.interpolate(torch.arange(1., 10).square().reshape(1, 1, 3, 3), (4, 2), mode="bicubic")
    #[test]
    fn plain_bicubic_resizing_is_pytorchs() {
        let values: Vec<f32> = (1..10).map(|x| (x * x) as f32).collect();
        let got = bicubic(&values, [3, 3, 1], [4, 2]);
        let expected = [
            0.34481, 6.1171, 8.08157, 19.69089, 31.7319, 52.46633, 54.25187, 80.82332,
        ];
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-4, "{got} for {expected}");
        }
    }
}
