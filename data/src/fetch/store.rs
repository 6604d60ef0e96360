//! Streams → files, whole or not at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use files::Unfinished;
use flate2::bufread::MultiGzDecoder;

use super::origin::Origin;
use super::{Fetch, Form};
use crate::error::DataError;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 16;

/// The file of a shard: itself, or the one that was fetched, now or before. Processes that want the same shard wait for the
/// first.
pub(super) fn fetch(
    origin: &Origin,
    fetch: &Fetch,
    directory: &Path,
    form: Form,
) -> Result<PathBuf, DataError> {
    if let Origin::File(path) = origin {
        return Ok(path.clone());
    }
    let path = directory.join(origin.cached_name(form));
    if path.exists() {
        return Ok(path);
    }
    let mut lock = path.clone().into_os_string();
    lock.push(".lock");
    let lock = PathBuf::from(lock);
    let locked = File::create(&lock).and_then(|file| file.lock().map(|()| file));
    let _locked = locked.map_err(|error| DataError::io(&lock, error))?;
    if path.exists() {
        return Ok(path);
    }
    let io = |error| DataError::io(&path, error);
    let mut file = Unfinished::create(&path).map_err(io)?;
    let length = unpack(origin, fetch, &mut file)?;
    let written = File::open(files::partial(file.path())).map_err(io)?;
    if let Some(fault) = form.fault(&written, length).map_err(io)? {
        return Err(origin.fails(fault));
    }
    file.finish().map_err(io)?;
    // Whoever waits for the lock finds the shard.
    let _ = std::fs::remove_file(lock);
    Ok(path)
}

/// Writes the bytes, uncompressed, and counts them.
fn unpack(origin: &Origin, fetch: &Fetch, file: &mut Unfinished) -> Result<u64, DataError> {
    let mut stream = BufReader::with_capacity(BLOCK, origin.open(fetch)?);
    let begin = stream.fill_buf();
    let begin = begin.map_err(|error| origin.fails(error.to_string()))?;
    let most = fetch.max_mb.saturating_mul(1 << 20);
    if begin.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = MultiGzDecoder::new(&mut stream);
        let length = copy(&mut unpacked, most, origin, file, "unpacking gzip: ")?;
        // The end of a command tells how it ended.
        copy(&mut stream, most, origin, file, "").map(|rest| length + rest)
    } else {
        copy(&mut stream, most, origin, file, "")
    }
}

fn copy(
    stream: &mut impl Read,
    most: u64,
    origin: &Origin,
    file: &mut Unfinished,
    doing: &str,
) -> Result<u64, DataError> {
    let (mut bytes, mut length) = (vec![0; BLOCK], 0);
    loop {
        let count = match stream.read(&mut bytes) {
            Ok(0) => return Ok(length),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let what = format!("{doing}{error}, after {length} bytes; nothing of it is kept");
                return Err(origin.fails(what));
            }
        };
        length += count as u64;
        if length > most {
            let megabytes = most >> 20;
            return Err(origin.fails(format!(
                "has more than {megabytes} megabytes; if that is right, raise `max_mb` of `fetch`"
            )));
        }
        file.write_all(&bytes[..count])
            .map_err(|error| DataError::io(file.path(), error))?;
    }
}
