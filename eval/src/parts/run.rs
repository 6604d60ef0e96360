//! Rows → parts.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use burn::tensor::{Tensor, backend::Backend};
use data::npy::Float;
use data::strings::TableFormat;
use files::Shard;

use super::layout::Layout;
use super::note::{PartNote, REASONS};
use super::read::{Batch, read_batch};
use super::rows::Rows;
use super::write::{Embedded, PartWriter};
use crate::embedded::Work;
use crate::encoder::DualEncoder;
use crate::error::{EvalError, Result};
use crate::extract::{Extraction, append, progress_bar};

/// Batches that may wait for the device.
const QUEUE: usize = 2;

/// How parts are written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Rows of a part, clip-retrieval's `write_batch_size`.
    pub part_size: usize,
    /// How numbers are kept.
    pub float: Float,
    /// How the names of the rows are written.
    pub metadata: TableFormat,
    /// The parts that this process makes.
    pub share: Shard,
    /// Make parts anew that are there.
    pub overwrite: bool,
    /// What else decides the numbers, such as the precision: parts of other values do not go together.
    pub options: BTreeMap<String, String>,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Parts, those included that were there.
    pub parts: usize,
    /// Parts that were there.
    pub found: usize,
    /// Rows in them.
    pub rows: usize,
    /// Rows that could not be read.
    pub left_out: usize,
    /// Why, the first of every part.
    pub reasons: Vec<String>,
    /// Captions that lost their end; `None` if the model cannot tell.
    pub truncated: Option<usize>,
}

impl Outcome {
    fn add(&mut self, note: PartNote) {
        self.parts += 1;
        self.rows += note.rows;
        self.left_out += note.left_out;
        self.reasons.extend(note.reasons);
        if let Some(truncated) = note.truncated {
            *self.truncated.get_or_insert(0) += truncated;
        }
    }
}

impl Settings {
    fn layout(&self, rows: usize) -> Result<Layout> {
        if self.part_size == 0 {
            return Err(EvalError::Option {
                option: "write_batch_size",
                reason: "must be at least 1".into(),
            });
        }
        Ok(Layout {
            folder: self.folder.clone(),
            parts: rows.div_ceil(self.part_size),
        })
    }

    fn work<B: Backend, E: DualEncoder<B>>(
        &self,
        rows: &Rows,
        encoder: &E,
        batch_size: usize,
    ) -> Result<Work> {
        let mut options = self.options.clone();
        options.insert("dtype".into(), self.float.descr().into());
        options.insert("metadata".into(), self.metadata.extension().into());
        options.insert("write_batch_size".into(), self.part_size.to_string());
        let count = |there: bool| if there { rows.len() } else { 0 };
        Ok(Work {
            images: count(rows.has_images()),
            texts: count(rows.has_captions()),
            batch_size,
            list: rows.digest(),
            model: encoder.identity()?.unwrap_or_default(),
            options,
        })
    }

    /// The rows of a part.
    fn rows_of(&self, part: usize, rows: usize) -> Range<usize> {
        part * self.part_size..((part + 1) * self.part_size).min(rows)
    }
}

/// Embeds rows and writes the parts of a share of them: threads read and decode the next batches while the device computes,
/// and rows go to the disk as they come. Batches begin anew with every part, so a part is the same whoever makes it.
///
/// A part that is there is kept. Rows that cannot be read are left out, and told. An error leaves the parts that were whole before it,
/// and no folder without any.
///
/// # Errors
///
/// When the folder cannot be written, when it holds parts of other work, and when the model refuses a text or gives what is no
/// number.
pub fn embed<B: Backend, E: DualEncoder<B>>(
    encoder: &E,
    rows: &Rows,
    settings: &Settings,
    options: &Extraction,
    device: &B::Device,
) -> Result<Outcome> {
    settings.metadata.check()?;
    let layout = settings.layout(rows.len())?;
    if options.batch_size == 0 {
        return Err(EvalError::Option {
            option: "batch_size",
            reason: "must be at least 1".into(),
        });
    }
    let folders = layout.create(rows.has_images(), rows.has_captions())?;
    for (path, note) in PartNote::all(&layout.folder)? {
        // Their files would stay beside the new ones, and be read with them.
        if note.parts != layout.parts {
            let (there, parts) = (note.parts, layout.parts);
            let reason = format!(
                "this is one of {there} parts, and {parts} are to be made; remove the folder, or name another"
            );
            return Err(EvalError::format(&path, reason));
        }
    }
    let work = settings.work(rows, encoder, options.batch_size)?;
    let (mut outcome, mut missing) = (Outcome::default(), Vec::new());
    for part in settings.share.range(layout.parts) {
        let files = [
            Some(layout.metadata(part, settings.metadata)),
            rows.has_images().then(|| layout.images(part)),
            rows.has_captions().then(|| layout.texts(part)),
        ];
        let files: Vec<PathBuf> = files.into_iter().flatten().collect();
        let found = match settings.overwrite {
            true => None,
            false => PartNote::find(&layout, part, &work, &files)?,
        };
        match found {
            Some(note) => {
                outcome.add(note);
                outcome.found += 1;
            }
            None => missing.push(part),
        }
    }

    let ranges = missing
        .iter()
        .map(|&part| settings.rows_of(part, rows.len()));
    let total = ranges.clone().map(|range| range.len()).sum();
    let bar = progress_bar(options, total, "rows");
    let (sender, receiver) = sync_channel(QUEUE);
    let batch_size = options.batch_size;
    std::thread::scope(|scope| {
        let ahead = ranges.flat_map(|range| batches(range, batch_size));
        let preprocess = encoder.preprocess();
        scope.spawn(move || {
            for range in ahead {
                // The receiver hangs up when the run fails: stop decoding.
                if sender.send(read_batch(rows, preprocess, range)).is_err() {
                    break;
                }
            }
        });
        let maker = Maker {
            encoder,
            rows,
            settings,
            layout: &layout,
            work: &work,
            device,
        };
        let receiver = receiver; // dropped with this closure, also by an error
        for &part in &missing {
            let count = batches(settings.rows_of(part, rows.len()), batch_size).count();
            let note = maker.part(part, count, &receiver, &|rows| bar.inc(rows as u64))?;
            outcome.add(note);
        }
        Ok::<_, EvalError>(())
    })?;
    bar.finish_and_clear();
    folders.keep();
    Ok(outcome)
}

fn batches(rows: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = rows.end;
    rows.step_by(size)
        .map(move |start| start..(start + size).min(end))
}

/// What makes a part of batches that were read.
struct Maker<'a, B: Backend, E> {
    encoder: &'a E,
    rows: &'a Rows,
    settings: &'a Settings,
    layout: &'a Layout,
    work: &'a Work,
    device: &'a B::Device,
}

impl<B: Backend, E: DualEncoder<B>> Maker<'_, B, E> {
    /// Makes a part of the next `batches`.
    fn part(
        &self,
        part: usize,
        batches: usize,
        receiver: &Receiver<Batch>,
        done: &dyn Fn(usize),
    ) -> Result<PartNote> {
        let sides = (
            self.rows.has_images(),
            self.rows.has_captions(),
            self.encoder.embed_dim(),
        );
        let mut note = PartNote {
            part,
            parts: self.layout.parts,
            rows: 0,
            left_out: 0,
            reasons: Vec::new(),
            truncated: None,
            logit_scale: self.encoder.scale(),
            of: self.work.clone(),
        };
        let columns = self.rows.columns();
        // Another share that failed may have taken the folders along while they were empty.
        self.layout.create(sides.0, sides.1)?.keep();
        self.layout.clear(part)?;
        let mut writer = PartWriter::create(self.layout, part, self.settings, columns, sides)?;
        for _ in 0..batches {
            let batch = receiver
                .recv()
                .map_err(|_| EvalError::Encoder("the thread that reads images ended".into()))?;
            note.left_out += batch.bad.len();
            let room = REASONS - note.reasons.len();
            note.reasons.extend(batch.bad.iter().take(room).cloned());
            if let Some(truncated) = self.encoder.truncated(&batch.captions) {
                *note.truncated.get_or_insert(0) += truncated;
            }
            let len = batch.len;
            if !batch.named.is_empty() {
                writer.push(&self.embed(batch)?)?;
            }
            done(len);
        }
        note.rows = writer.rows;
        writer.finish()?;
        note.write(self.layout)?;
        Ok(note)
    }

    fn embed(&self, batch: Batch) -> Result<Embedded> {
        let values = |embeddings: Tensor<B, 2>| {
            let mut values = Vec::new();
            append(&mut values, embeddings, self.encoder.embed_dim())?;
            Ok::<_, EvalError>(values)
        };
        let images = self.rows.has_images().then(|| {
            let config = self.encoder.preprocess().config();
            let pixels = batch.pixels.to_tensor::<B>(config, self.device);
            values(self.encoder.encode_images(pixels))
        });
        let texts = self.rows.has_captions().then(|| {
            let texts = self.encoder.encode_texts(&batch.captions)?;
            values(texts)
        });
        Ok(Embedded {
            images: images.transpose()?,
            texts: texts.transpose()?,
            named: batch.named,
        })
    }
}

/// Looks whether all parts of a folder are there and were made of the same.
///
/// # Errors
///
/// Names the parts that are missing, and one that was made of something else.
pub fn check(folder: &Path) -> Result<Outcome> {
    let notes = PartNote::all(folder)?.into_iter();
    let found: BTreeMap<usize, (PathBuf, PartNote)> = notes
        .map(|(path, note)| (note.part, (path, note)))
        .collect();
    let Some((first_path, first)) = found.values().next().cloned() else {
        return Err(EvalError::format(folder, "there are no parts in it"));
    };
    let mut outcome = Outcome::default();
    for (path, note) in found.values() {
        if let Some(difference) = first.of.difference(&note.of) {
            let first = first_path.display();
            let reason = format!("does not go together with {first}: it was made of {difference}");
            return Err(EvalError::format(path, reason));
        }
        outcome.add(note.clone());
    }
    let missing: Vec<String> = (0..first.parts)
        .filter(|part| !found.contains_key(part))
        .map(|part| part.to_string())
        .collect();
    match missing.is_empty() {
        true => Ok(outcome),
        false => Err(EvalError::format(
            folder,
            format!(
                "{} of {} parts are missing: {}; give the command again that was to make them",
                missing.len(),
                first.parts,
                missing.join(", ")
            ),
        )),
    }
}
