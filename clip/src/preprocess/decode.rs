//! Encoded bytes → RGB, with the colours of PIL's `Image.open(..).convert("RGB")`.

use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::{ImageError, budget, webp};
pub use files::MAX_IMAGE_BYTES as MAX_BYTES;

/// Most pixels of an image unless told otherwise; more is taken for a decompression bomb.
pub const MAX_PIXELS: u64 = 128_000_000;
/// Longest side of an image; bounds the memory that resizing an extreme aspect ratio takes.
pub const MAX_SIDE: u32 = 100_000;
/// What a decoder may allocate beside the image itself: rows, tables, a colour profile.
const OVERHEAD: u64 = 32 << 20;

/// Decodes the image file at `path`. See [`decode`].
///
/// # Errors
///
/// As [`decode`], with the path named.
pub fn open(path: &Path) -> Result<RgbImage, ImageError> {
    read(path)
        .and_then(|bytes| decode(&bytes))
        .map_err(|source| ImageError::InFile {
            path: path.into(),
            source: Box::new(source),
        })
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    let read = files::read_image(path).map_err(ImageError::Read)?;
    read.map_err(|bytes| ImageError::TooLong { bytes })
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
    guarded(name, || decode_as(format, name, bytes, max_pixels))
}

/// A panic of a decoder is an error of its image: one bad file must not end a run.
fn guarded<T>(
    format: &'static str,
    decode: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let what = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let what = what.unwrap_or("a panic").to_string();
        Err(ImageError::Panicked { format, what })
    })
}

fn decode_as(
    format: ImageFormat,
    name: &'static str,
    bytes: &[u8],
    max_pixels: u64,
) -> Result<RgbImage, ImageError> {
    // JPEG decoders paint what is missing gray; PIL refuses such files, and so do we.
    if format == ImageFormat::Jpeg && !jpeg_reaches_its_end(bytes) {
        return Err(ImageError::Truncated { format: name });
    }
    let explain = |source| match &source {
        image::ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated { format: name }
        }
        _ => ImageError::Undecodable {
            format: name,
            source,
        },
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let at_most = |bytes| {
        let mut limits = Limits::no_limits(); // the limit on pixels below is ours
        limits.max_alloc = Some(bytes);
        limits
    };
    reader.limits(at_most(OVERHEAD));
    let mut decoder = reader.into_decoder().map_err(explain)?;
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(ImageError::NoPixels {
            format: name,
            width,
            height,
        });
    }
    if u64::from(width) * u64::from(height) > max_pixels || width.max(height) > MAX_SIDE {
        return Err(ImageError::TooLarge {
            width,
            height,
            max_pixels,
            max_side: MAX_SIDE,
        });
    }
    if format == ImageFormat::WebP {
        // Its decoder looks at the size of a frame when the frame is decoded already.
        let beyond = |frame: &[u32; 2]| frame[0] > width || frame[1] > height;
        if let Some(frame) = webp::frames(bytes).into_iter().find(beyond) {
            let canvas = [width, height];
            return Err(ImageError::BeyondCanvas { frame, canvas });
        }
    }
    let bytes = decoder.total_bytes();
    // A GIF whose first frame is not its canvas needs both.
    let limits = at_most(bytes.saturating_mul(2).saturating_add(OVERHEAD));
    decoder.set_limits(limits).map_err(explain)?;
    // The coefficients of a progressive JPEG, the image, and its RGB.
    let _reserved = budget::reserve(bytes.saturating_mul(3));
    DynamicImage::from_decoder(decoder)
        .map(into_rgb)
        .map_err(explain)
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
                let &[_, high, low, ..] = rest else {
                    return false;
                };
                let length = usize::from(u16::from_be_bytes([high, low]));
                let Some(after) = rest.get(1 + length.max(2)..) else {
                    return false;
                };
                rest = after;
            }
            None => return false,
        }
    }
    false
}

fn into_rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let high_byte = |x: u16| (x >> 8) as u8;
    let pixels = match image {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageLuma8(i) => packed(i.pixels().map(|p| [p.0[0]; 3])),
        DynamicImage::ImageLumaA8(i) => packed(i.pixels().map(|p| [p.0[0]; 3])),
        DynamicImage::ImageRgba8(i) => packed(i.pixels().map(|p| [p.0[0], p.0[1], p.0[2]])),
        // PIL's "I;16" holds the numbers as they are, and converting clips them.
        DynamicImage::ImageLuma16(i) => packed(i.pixels().map(|p| [p.0[0].min(255) as u8; 3])),
        DynamicImage::ImageLumaA16(i) => packed(i.pixels().map(|p| [high_byte(p.0[0]); 3])),
        DynamicImage::ImageRgb16(i) => packed(i.pixels().map(|p| p.0.map(high_byte))),
        DynamicImage::ImageRgba16(i) => {
            packed(i.pixels().map(|p| [p.0[0], p.0[1], p.0[2]].map(high_byte)))
        }
        other => return other.into_rgb8(),
    };
    RgbImage::from_raw(width, height, pixels).expect("three bytes were made per pixel")
}

/// The samples of all pixels, one after the other.
fn packed(pixels: impl ExactSizeIterator<Item = [u8; 3]>) -> Vec<u8> {
    let mut samples = vec![0; 3 * pixels.len()];
    for (slot, pixel) in samples.chunks_exact_mut(3).zip(pixels) {
        slot.copy_from_slice(&pixel);
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fixture, read, reference};
    use super::*;

    /// Largest difference of one level from PIL. Lossless files are exact; the inverse DCT and
    /// the chroma upsampling of lossy ones are not those of libjpeg to the last bit.
    fn tolerance(file: &str) -> u8 {
        match Path::new(file)
            .extension()
            .and_then(|extension| extension.to_str())
        {
            // libjpeg does not smooth the chroma of an image this narrow.
            _ if file == "narrow.jpg" => 12,
            Some("jpg") => 6,
            _ if file == "lossy.webp" => 3,
            _ => 0,
        }
    }

    /// Mean difference over all levels; of the photographs it is 0.05.
    fn mean_tolerance(file: &str) -> f64 {
        match file {
            "narrow.jpg" => 2.8,
            // Noise whose colours are stored at half the size, which photographs are not.
            "420.jpg" | "progressive.jpg" | "restart.jpg" => 0.42,
            _ => 0.2,
        }
    }

    /// Reference: `decoded` of `tests/reference/pixels.py` (Pillow 13.0.0).
    #[test]
    fn every_kind_of_file_has_the_colours_of_pil() {
        let all = std::fs::read(fixture("decoded.rgb")).unwrap();
        let mut rest = all.as_slice();
        let mut wrong = Vec::new();
        for case in reference("decoded") {
            let file: String = read(&case["file"]);
            let [height, width]: [u32; 2] = read(&case["size"]);
            let (expected, after) = rest.split_at((height * width * 3) as usize);
            rest = after;
            let image = open(&fixture(&file)).unwrap();
            assert_eq!(image.dimensions(), (width, height), "{file}");
            let differences = image
                .as_raw()
                .iter()
                .zip(expected)
                .map(|(a, b)| a.abs_diff(*b));
            let max = differences.clone().max().unwrap();
            let mean = differences.map(f64::from).sum::<f64>() / expected.len() as f64;
            if max > tolerance(&file) || mean > mean_tolerance(&file) {
                wrong.push(format!("{file}: max {max}, mean {mean:.3}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    fn bytes(file: &str) -> Vec<u8> {
        std::fs::read(fixture(file)).unwrap()
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        for file in [
            "420.jpg",
            "progressive.jpg",
            "rgb.png",
            "lossy.webp",
            "rgb.bmp",
        ] {
            let whole = bytes(file);
            for kept in [whole.len() / 4, whole.len() / 2, whole.len() - 20] {
                let error = decode(&whole[..kept]).expect_err(file);
                let of_format = matches!(
                    error,
                    ImageError::Truncated { .. } | ImageError::Undecodable { .. }
                );
                assert!(of_format, "{file}: {error}");
            }
        }
        let jpeg = bytes("444.jpg");
        let error = decode(&jpeg[..jpeg.len() - 2]).unwrap_err();
        assert!(
            matches!(error, ImageError::Truncated { format: "JPEG" }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_image_is_named_with_its_path_and_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        for (content, message) in [
            (&b""[..], "0 bytes"),
            (&b"these are words"[..], "not a JPEG, PNG, WebP, GIF or BMP"),
            (&bytes("444.jpg")[..300], "truncated JPEG"),
        ] {
            let path = dir.path().join("photo.jpg");
            std::fs::write(&path, content).unwrap();
            let error = open(&path).unwrap_err().to_string();
            assert!(
                error.contains("photo.jpg") && error.contains(message),
                "{error}"
            );
        }
        let error = open(&dir.path().join("absent.png"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("absent.png") && error.contains("check that it exists"),
            "{error}"
        );
    }

    #[test]
    fn too_many_pixels_are_refused_before_they_are_allocated() {
        let error = decode_with_limit(&bytes("rgb.png"), 100).unwrap_err();
        assert!(
            matches!(
                error,
                ImageError::TooLarge {
                    width: 23,
                    height: 19,
                    ..
                }
            ),
            "{error}"
        );
        // A BMP header that claims 60000 x 60000 pixels.
        let mut bomb = bytes("rgb.bmp");
        bomb[18..22].copy_from_slice(&60_000u32.to_le_bytes());
        bomb[22..26].copy_from_slice(&60_000u32.to_le_bytes());
        let error = decode(&bomb).unwrap_err();
        assert!(
            matches!(error, ImageError::TooLarge { width: 60_000, .. }),
            "{error}"
        );
    }

    #[test]
    fn an_image_without_a_row_is_refused() {
        let mut flat = bytes("rgb.bmp");
        flat[22..26].copy_from_slice(&0u32.to_le_bytes());
        assert!(decode(&flat).is_err());
        let mut flat = bytes("palette.gif");
        flat[8..10].copy_from_slice(&0u16.to_le_bytes());
        let error = decode(&flat).unwrap_err();
        assert!(
            matches!(error, ImageError::NoPixels { height: 0, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_panic_of_a_decoder_is_an_error_of_its_image() {
        let error = guarded::<()>("PNG", || panic!("row {} of 3", 4)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("PNG decoder failed (row 4 of 3)"),
            "{error}"
        );
    }

    #[test]
    fn a_file_longer_than_any_image_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap(); // takes no room on the disk
        let error = open(file.path()).unwrap_err().to_string();
        assert!(error.contains(&(MAX_BYTES + 1).to_string()), "{error}");
    }

    #[test]
    fn damaged_files_never_panic() {
        use rand::{Rng, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
        for case in reference("decoded") {
            let whole = bytes(&read::<String>(&case["file"]));
            for _ in 0..FUZZ_ROUNDS {
                let mut damaged = whole.clone();
                for _ in 0..rng.random_range(1..6) {
                    let at = rng.random_range(0..damaged.len());
                    damaged[at] = rng.random();
                }
                if rng.random_bool(0.2) {
                    damaged.truncate(rng.random_range(0..damaged.len()));
                }
                let _ = decode_with_limit(&damaged, 1_000_000);
            }
        }
    }

    /// Raise for a longer search.
    const FUZZ_ROUNDS: usize = 60;
}
