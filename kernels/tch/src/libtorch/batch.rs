//! What a batch brings from the host: pixels as bytes, and ids. To a GPU both go without anybody waiting.

use super::calls::upload;
use tch::{Device, Kind, Tensor};

/// `[images, 3, plane]` from `images · plane · 3` bytes; `None` if they are not so many.
pub(super) fn look_up(
    pixels: &[u8],
    images: usize,
    tables: &[[f32; 256]; 3],
    device: Device,
) -> Option<Tensor> {
    if images == 0 || pixels.is_empty() || !pixels.len().is_multiple_of(3 * images) {
        return None;
    }
    let plane = (pixels.len() / (3 * images)) as i64;
    let pixels = upload(pixels, &[images as i64, plane, 3], device);
    let tables = upload(&tables.concat(), &[3 * 256], device);
    let first = upload(&[0i64, 256, 512], &[3, 1], device);
    let places = pixels.permute([0, 2, 1]).to_kind(Kind::Int64) + first;
    Some(tables.take(&places).contiguous())
}

/// As burn's integers are on LibTorch, of 64 bits.
pub(super) fn ids(ids: &[i32], [rows, columns]: [usize; 2], device: Device) -> Tensor {
    upload(ids, &[rows as i64, columns as i64], device).to_kind(Kind::Int64)
}
