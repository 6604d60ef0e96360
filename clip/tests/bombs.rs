//! Small files that ask for gigabytes: each is answered with little memory, which the allocator of this program counts.

use clip::preprocess::{ImageError, decode};
use peak_alloc::PeakAlloc;
use std::io::Write;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What a call gives, and the most bytes that were alive in it beyond those before.
fn peak<T>(call: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let given = call();
    (given, ALLOCATOR.peak_usage().saturating_sub(before))
}

const LIMIT: usize = 100 << 20;

fn picture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/pixels/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// A PNG with a colour profile of a gigabyte of zeros.
fn png() -> Vec<u8> {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1024 {
        packed.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let mut chunk = b"iCCPx\0\0".to_vec();
    chunk.extend(packed.finish().unwrap());
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    let whole = picture("rgb.png");
    let behind_header = 8 + 25;
    let mut bomb = whole[..behind_header].to_vec();
    bomb.extend((chunk.len() as u32 - 4).to_be_bytes());
    bomb.extend(&chunk);
    bomb.extend(crc.sum().to_be_bytes());
    bomb.extend(&whole[behind_header..]);
    bomb
}

/// A GIF of 2 × 2 pixels whose frame has 65535 × 65535.
fn gif() -> Vec<u8> {
    let mut bomb = b"GIF89a\x02\0\x02\0\x80\0\0".to_vec();
    bomb.extend([0, 0, 0, 255, 255, 255]);
    bomb.extend(b",\0\0\0\0\xff\xff\xff\xff\0");
    bomb.extend([2, 2, 0x4c, 1, 0, b';']);
    bomb
}

/// A WebP of 1 × 1 pixel whose frame has 16383 × 16383.
fn webp() -> Vec<u8> {
    let lossy = picture("lossy.webp");
    let at = lossy.windows(4).position(|name| name == b"VP8 ").unwrap();
    let mut frame = lossy[at..].to_vec();
    frame[8 + 6..8 + 10].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    let mut content = b"WEBPVP8X\x0a\0\0\0".to_vec();
    content.extend([0; 10]);
    content.extend(frame);
    let mut bomb = b"RIFF".to_vec();
    bomb.extend((content.len() as u32).to_le_bytes());
    bomb.extend(content);
    bomb
}

/// One test: the counter is the whole program's.
#[test]
fn small_files_do_not_take_gigabytes() {
    // The profile is of no use here, so the image is read as if it had none.
    let bomb = png();
    let (image, bytes) = peak(|| decode(&bomb).unwrap());
    assert_eq!(image, decode(&picture("rgb.png")).unwrap());
    assert!(bytes < LIMIT, "PNG: {bytes}");

    let bomb = gif();
    let (refused, bytes) = peak(|| decode(&bomb).unwrap_err());
    assert!(bytes < LIMIT, "GIF: {bytes}, {refused}");

    let bomb = webp();
    let (refused, bytes) = peak(|| decode(&bomb).unwrap_err());
    assert!(
        matches!(
            refused,
            ImageError::BeyondCanvas {
                frame: [16383, 16383],
                ..
            }
        ),
        "{refused}"
    );
    assert!(bytes < LIMIT, "WebP: {bytes}");
}
