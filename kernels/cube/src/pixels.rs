//! Pixels that travel as bytes, and become what a model sees on the device.

use crate::cube::elementwise;
use burn::tensor::{Bytes, DType, Shape};
use burn_cubecl::CubeRuntime;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::device::Device;
use cubecl::device_handle::DeviceHandle;
use cubecl::prelude::*;
use cubecl::server::{ComputeServer, Handle};
use cubecl::stream_id::StreamId;

/// Four bytes of a word, the first in the lowest bits: devices without a type for bytes have words.
const BYTES: usize = 4;

#[cube(launch_unchecked)]
fn looked_up(words: &Array<u32>, tables: &Array<f32>, out: &mut Array<f32>, plane: u32) {
    let stride = CUBE_COUNT * CUBE_DIM as usize;
    let plane = plane as usize;
    let mut at = ABSOLUTE_POS;
    while at < out.len() {
        let channel = at / plane % 3;
        let byte = (at / (plane * 3) * plane + at % plane) * 3 + channel;
        let shift = (byte % 4 * 8) as u32;
        let value = (words[byte / 4] >> shift) & 255;
        out[at] = tables[channel * 256 + value as usize];
        at += stride;
    }
}

/// `[images, 3, plane]` from `images · plane · 3` bytes; given back if they are not so many, or none, or too many.
pub(crate) fn look_up<R: CubeRuntime>(
    pixels: Bytes,
    images: usize,
    tables: &[[f32; 256]; 3],
    device: &R::Device,
) -> Result<CubeTensor<R>, Bytes> {
    let count = pixels.len();
    if images == 0 || !(1..crate::MOST).contains(&count) || !count.is_multiple_of(3 * images) {
        return Err(pixels);
    }
    let client = R::client(device);
    let plane = count / (3 * images);
    let shape = Shape::from(vec![images, 3, plane]);
    let out = empty_device_contiguous_dtype(client.clone(), device.clone(), shape, DType::F32);
    let tables = tables.concat();
    let (cubes, units) = elementwise(count);
    let (words, table) = (count.div_ceil(BYTES), tables.len());
    let pixels = upload::<R>(pixels, words * BYTES, device);
    let tables = client.create_from_slice(f32::as_bytes(&tables));
    // SAFETY: every byte of the pixels lies in one of the words, and the tables have an entry for every byte of each channel.
    #[allow(unsafe_code)]
    unsafe {
        looked_up::launch_unchecked::<R>(
            &client,
            cubes,
            units,
            ArrayArg::from_raw_parts(pixels, words),
            ArrayArg::from_raw_parts(tables, table),
            out.clone().into_array_arg(),
            plane as u32,
        );
    }
    Ok(out)
}

/// The bytes at the beginning of a new buffer of `size` bytes.
///
/// What a client creates from bytes it copies first, in this version of cubecl. Here the device's thread gets them as they are, and
/// keeps them until the device has read them.
fn upload<R: CubeRuntime>(bytes: Bytes, size: usize, device: &R::Device) -> Handle {
    let buffer = R::client(device).empty(size);
    let row = buffer
        .clone()
        .copy_descriptor([bytes.len()].into(), [1].into(), 1);
    let stream = StreamId::current();
    DeviceHandle::<R::Server>::new(device.to_id())
        .submit(move |server| server.write(vec![(row, bytes)], stream));
    buffer
}
