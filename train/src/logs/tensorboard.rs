//! TensorBoard event files: scalars in TFRecord framing.
//!
//! A record is `length: u64 | crc(length): u32 | Event | crc(Event): u32`, all little-endian, with masked
//! CRC-32C. An `Event` is a protocol buffer of a handful of fields (`tensorflow/core/util/event.proto`),
//! written here by hand.

use super::metrics::{Entry, Kind};
use crate::error::{Result, TrainError};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file while a run writes it.
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// Starts a new file in `dir` for a run that continues after step `done`: viewers then drop later
    /// points of earlier files.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn create(dir: &Path, done: u64) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(TrainError::io(dir))?;
        let name = format!(
            "events.out.tfevents.{}.{}.train",
            seconds() as u64,
            std::process::id()
        );
        let path = dir.join(name);
        let mut file = File::create(&path).map_err(TrainError::io(&path))?;
        let mut version = event(0);
        bytes_field(&mut version, 3, b"brain.Event:2");
        let mut session = Vec::new();
        varint_field(&mut session, 1, 1); // SessionLog.status = START
        let mut start = event(done + 1);
        bytes_field(&mut start, 7, &session);
        let written = file.write_all(&[record(&version), record(&start)].concat());
        written.map_err(TrainError::io(&path))?;
        Ok(Self { file })
    }

    /// Appends the values of an entry under `train/` or `val/`.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn append(&mut self, entry: &Entry) -> std::io::Result<()> {
        let prefix = if entry.kind == Kind::Train {
            "train"
        } else {
            "val"
        };
        let mut summary = Vec::new();
        for (name, value) in entry.values.iter().chain(&entry.speed) {
            let mut scalar = Vec::new();
            bytes_field(&mut scalar, 1, format!("{prefix}/{name}").as_bytes());
            float_field(&mut scalar, 2, *value as f32);
            bytes_field(&mut summary, 1, &scalar);
        }
        let mut event = event(entry.step);
        bytes_field(&mut event, 5, &summary);
        self.file.write_all(&record(&event))
    }
}

fn seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// The start of an `Event`: `wall_time` and `step`.
fn event(step: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(seconds().to_le_bytes());
    varint_field(&mut out, 2, step);
    out
}

fn varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    out.push(field << 3);
    varint(out, value);
}

fn float_field(out: &mut Vec<u8>, field: u8, value: f32) {
    out.push(field << 3 | 5);
    out.extend(value.to_le_bytes());
}

fn bytes_field(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let checks = [masked_crc(&length), masked_crc(event)].map(u32::to_le_bytes);
    [&length[..], &checks[0], event, &checks[1]].concat()
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: events are small and rare.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_matches_published_vectors() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn numbers_take_seven_bits_per_byte() {
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }
}
