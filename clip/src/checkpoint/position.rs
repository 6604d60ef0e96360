//! Position embeddings for another image size or context length.

use super::state_dict::{HostTensor, StateDict};
use crate::config::ModelConfig;
use crate::preprocess::resize_f32;

const VISION: &str = "visual.positional_embedding";
const TEXT: &str = "text.positional_embedding";

/// Resizes the position tables of a checkpoint to those of the model, as open_clip does on load: antialiased
/// bicubic for the grid of patches, linear for texts. Tables that fit, or cannot be a grid, stay as they are.
pub(super) fn fit(dict: &mut StateDict, config: &ModelConfig) {
    let [height, width] = config.vision_cfg.image_size.sides();
    let patch = config.vision_cfg.patch_size;
    if let Some(table) = dict.remove(VISION) {
        let table = resize_grid(&table, [height / patch, width / patch]).unwrap_or(table);
        dict.insert(VISION, table);
    }
    let rows = config.text_cfg.context_length + usize::from(config.text_cfg.embed_cls);
    if let Some(table) = dict.remove(TEXT) {
        let table = resize_rows(&table, rows).unwrap_or(table);
        dict.insert(TEXT, table);
    }
}

/// The class token's row, then a square grid.
fn resize_grid(table: &HostTensor, grid: [usize; 2]) -> Option<HostTensor> {
    let [rows, width] = *table.shape() else {
        return None;
    };
    let side = rows.checked_sub(1)?.isqrt();
    if rows == 1 + grid[0] * grid[1] || side * side + 1 != rows {
        return None;
    }
    let values = table.values();
    let (class, patches) = values.split_at(width);
    let mut resized = class.to_vec();
    resized.extend(resize_f32(patches, [side, side, width], grid));
    Some(HostTensor::from_values(
        resized,
        [1 + grid[0] * grid[1], width],
    ))
}

/// PyTorch's `interpolate(mode="linear", align_corners=False)` over the whole table.
fn resize_rows(table: &HostTensor, rows: usize) -> Option<HostTensor> {
    let [old, width] = *table.shape() else {
        return None;
    };
    if old == rows || old == 0 {
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
