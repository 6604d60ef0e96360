//! Files of encoded images, read whole.

use std::path::Path;

use crate::error::{DataError, Place};

/// Longest file that is read as an image; uncompressed, 128 million pixels in 16-bit colour have less.
pub const MAX_IMAGE_BYTES: u64 = 1 << 30;

/// The bytes of an image file.
///
/// # Errors
///
/// Names a file that cannot be read, or is longer than [`MAX_IMAGE_BYTES`].
pub fn read_image(path: &Path) -> Result<Vec<u8>, DataError> {
    let io = |error| DataError::io(path, error);
    let bytes = std::fs::metadata(path).map_err(io)?.len();
    if bytes > MAX_IMAGE_BYTES {
        let what = format!("{bytes} bytes are no image; at most {MAX_IMAGE_BYTES} are read");
        return Err(DataError::malformed(path, Place::Whole, what));
    }
    std::fs::read(path).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_longer_than_any_image_is_not_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(read_image(file.path()).unwrap(), b"");
        file.as_file().set_len(MAX_IMAGE_BYTES + 1).unwrap(); // takes no room on the disk
        let error = read_image(file.path()).unwrap_err().to_string();
        assert!(error.contains("1073741825 bytes"), "{error}");
    }
}
