//! Streams → files, whole or not at all.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use files::Unfinished;
use flate2::bufread::MultiGzDecoder;

use super::Fetch;
use super::origin::Origin;
use crate::error::DataError;
use crate::webdataset::scan;

/// Bytes that are read at once.
const BLOCK: usize = 1 << 16;

/// The file of a shard: itself, or the one that was fetched, now or before. Processes that want the same shard wait for the
/// first.
pub(super) fn fetch(
    origin: &Origin,
    fetch: &Fetch,
    directory: &Path,
) -> Result<PathBuf, DataError> {
    if let Origin::File(path) = origin {
        return Ok(path.clone());
    }
    let path = directory.join(origin.cached_name());
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
    check_tar(origin, &file, length)?;
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

/// Refuses what is no tar at all, such as the page of a server that asks for a password, and what is cut, which not every way
/// here tells: it would be kept.
fn check_tar(origin: &Origin, file: &Unfinished, length: u64) -> Result<(), DataError> {
    let io = |error| DataError::io(file.path(), error);
    let written = File::open(files::partial(file.path())).map_err(io)?;
    let contents = scan(&written, length).map_err(io)?;
    let block = |start: u64| {
        let mut bytes = Vec::new();
        (&written).seek(SeekFrom::Start(start))?;
        (&written).take(512).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let what = if length == 0 {
        "nothing came".to_owned()
    } else if contents.members.is_empty() && !contents.damage.is_empty() {
        let begin = block(0).map_err(io)?;
        format!(
            "what came is no tar archive; its {length} bytes begin with {:?}",
            String::from_utf8_lossy(&begin[..begin.len().min(80)])
        )
    } else if block(length.saturating_sub(512))
        .map_err(io)?
        .iter()
        .any(|byte| *byte != 0)
    {
        format!(
            "what came is cut off: its {length} bytes have no end mark; is the archive whole where it lies?"
        )
    } else {
        return Ok(());
    };
    Err(origin.fails(what))
}
