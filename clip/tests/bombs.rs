//! Small files that ask for gigabytes: each is answered with little memory, which the allocator of this program counts.

use clip::checkpoint::read_state_dict;
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

/// A pickle of protocol 2.
fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    // A zip archive with one stored entry.
    let content = [b"\x80\x02", &parts.concat()[..], b"."].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&content);
    let size = (content.len() as u32).to_le_bytes();
    let name = b"data.pkl";
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &crc.sum().to_le_bytes(),
        &size,
        &size,
        &[8, 0, 0, 0],
    ]
    .concat();
    let entry = [b"PK\x03\x04", &common[..], name, &content].concat();
    let directory = [b"PK\x01\x02\x14\0", &common[..], &[0; 14], name].concat();
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0",
        &(directory.len() as u32).to_le_bytes()[..],
        &(entry.len() as u32).to_le_bytes(),
        &[0, 0],
    ];
    [entry, directory, end.concat()].concat()
}

/// Pickles of a hundred kilobytes that name one thing of their memo thousands of times.
fn pickles() -> [(&'static str, Vec<u8>); 4] {
    let long = {
        let text = vec![b'x'; 100_000];
        [b"X", &(text.len() as u32).to_le_bytes()[..], &text, b"q\0"].concat()
    };
    let sides = [b"(", &b"K\x01".repeat(100_000)[..], b"tq\0"].concat();
    let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\nq\x01";
    let storage = b"((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000NNtQq\x02";
    [
        ("classes", pickle(&[&long, &b"h\0h\0\x93".repeat(5000)])),
        (
            "storages",
            pickle(&[
                &long,
                b"ctorch\nFloatStorage\nq\x01",
                &b"(Nh\x01h\0NNtQ".repeat(20_000),
            ]),
        ),
        (
            "shapes",
            pickle(&[
                &sides,
                rebuild,
                storage,
                &b"h\x01(h\x02K\0h\0h\0tR".repeat(5000),
            ]),
        ),
        (
            "names",
            pickle(&[
                &long,
                rebuild,
                storage,
                b"h\x01(h\x02K\0K\x01\x85K\x01\x85tRq\x03}(",
                &b"h\0h\x03".repeat(20_000),
                b"u",
            ]),
        ),
    ]
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

    let folder = tempfile::tempdir().unwrap();
    for (name, bomb) in pickles() {
        let path = folder.path().join(name);
        std::fs::write(&path, bomb).unwrap();
        let (refused, bytes) = peak(|| read_state_dict(&path).unwrap_err().to_string());
        assert!(refused.contains(name), "{refused:.300}");
        assert!(bytes < LIMIT, "pickle of {name}: {bytes}, {refused:.300}");
    }
}
