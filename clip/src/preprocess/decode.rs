//! Encoded bytes → RGB, with the colours of PIL's `Image.open(..).convert("RGB")`.

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::ImageError;

/// Most pixels of an image unless told otherwise; more is taken for a decompression bomb.
pub const MAX_PIXELS: u64 = 128_000_000;
/// Longest side of an image; bounds the memory that resizing an extreme aspect ratio takes.
pub const MAX_SIDE: u32 = 100_000;

/// Decodes the image file at `path`. See [`decode`].
///
/// # Errors
///
/// As [`decode`], with the path named.
pub fn open(path: &Path) -> Result<RgbImage, ImageError> {
    std::fs::read(path)
        .map_err(ImageError::Read)
        .and_then(|bytes| decode(&bytes))
        .map_err(|source| ImageError::InFile { path: path.into(), source: Box::new(source) })
}

/// Decodes a JPEG, PNG, WebP, GIF (first frame) or BMP image of at most [`MAX_PIXELS`].
///
/// The format is told by content. Colours are those of PIL: alpha is dropped without blending,
/// palettes are looked up, 16-bit gray is clipped (not scaled) and 16-bit colour keeps its high
/// byte. EXIF orientation is not applied, as open_clip does not apply it.
///
/// # Errors
///
/// No image, an unknown format, a truncated or broken file, or too many pixels.
pub fn decode(bytes: &[u8]) -> Result<RgbImage, ImageError> {
    decode_with_limit(bytes, MAX_PIXELS)
}

/// [`decode`] with another limit on the number of pixels.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_with_limit(bytes: &[u8], max_pixels: u64) -> Result<RgbImage, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    let (format, name) = sniff(bytes)?;
    // JPEG decoders paint what is missing gray; PIL refuses such files, and so do we.
    if format == ImageFormat::Jpeg && !jpeg_reaches_its_end(bytes) {
        return Err(ImageError::Truncated { format: name });
    }
    let explain = |source| match &source {
        image::ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: name }
        }
        _ => ImageError::Undecodable { format: name, source },
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.no_limits(); // the pixel limit below is ours
    let decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > max_pixels || width.max(height) > MAX_SIDE {
        return Err(ImageError::TooLarge { width, height, max_pixels, max_side: MAX_SIDE });
    }
    DynamicImage::from_decoder(decoder).map(into_rgb).map_err(explain)
}

fn sniff(bytes: &[u8]) -> Result<(ImageFormat, &'static str), ImageError> {
    let format = image::guess_format(bytes).ok();
    match format {
        Some(format @ ImageFormat::Jpeg) => Ok((format, "JPEG")),
        Some(format @ ImageFormat::Png) => Ok((format, "PNG")),
        Some(format @ ImageFormat::WebP) => Ok((format, "WebP")),
        Some(format @ ImageFormat::Gif) => Ok((format, "GIF")),
        Some(format @ ImageFormat::Bmp) => Ok((format, "BMP")),
        _ => Err(ImageError::UnknownFormat {
            start: bytes[..bytes.len().min(16)].escape_ascii().to_string(),
        }),
    }
}

/// Whether an end-of-image marker follows the headers and scans of a JPEG.
///
/// Segments are stepped over by their length, so the marker of an embedded thumbnail does not
/// count. Inside a scan, `FF` is followed by `00` or a restart marker.
fn jpeg_reaches_its_end(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = &bytes[2.min(bytes.len())..];
    while let Some(at) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[at + 1..];
        match rest.first() {
            Some(&END_OF_IMAGE) => return true,
            // Stuffing, fill bytes, markers without a segment.
            Some(0x00 | 0x01 | 0xD0..=0xD8) => rest = &rest[1..],
            Some(0xFF) => {}
            Some(_) => {
                let &[_, high, low, ..] = rest else { return false };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(after) = rest.get(1 + length.max(2)..) else { return false };
                rest = after;
            }
            None => return false,
        }
    }
    false
}

fn into_rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let gray = |levels: &mut dyn Iterator<Item = u8>| levels.flat_map(|y| [y; 3]).collect();
    let high_byte = |x: &u16| (x >> 8) as u8;
    let pixels: Vec<u8> = match image {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageLuma8(i) => gray(&mut i.pixels().map(|p| p.0[0])),
        DynamicImage::ImageLumaA8(i) => gray(&mut i.pixels().map(|p| p.0[0])),
        DynamicImage::ImageRgba8(i) => {
            i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect()
        }
        // PIL's "I;16" holds the numbers as they are, and converting clips them.
        DynamicImage::ImageLuma16(i) => gray(&mut i.pixels().map(|p| p.0[0].min(255) as u8)),
        DynamicImage::ImageLumaA16(i) => gray(&mut i.pixels().map(|p| high_byte(&p.0[0]))),
        DynamicImage::ImageRgb16(i) => i.as_raw().iter().map(high_byte).collect(),
        DynamicImage::ImageRgba16(i) => {
            i.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).map(|x| high_byte(&x)).collect()
        }
        other => return other.into_rgb8(),
    };
    RgbImage::from_raw(width, height, pixels).expect("three bytes were made per pixel")
}
