//! Files of encoded images, read whole.

use std::path::Path;

use crate::error::{DataError, Place};

pub use files::MAX_IMAGE_BYTES;

/// The bytes of an image file.
///
/// # Errors
///
/// Names a file that cannot be read, or is longer than [`MAX_IMAGE_BYTES`].
pub fn read_image(path: &Path) -> Result<Vec<u8>, DataError> {
    let read = files::read_image(path).map_err(|error| DataError::io(path, error))?;
    read.map_err(|bytes| {
        let what = format!("{bytes} bytes are no image; at most {MAX_IMAGE_BYTES} are read");
        DataError::malformed(path, Place::Whole, what)
    })
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
