//! Webdataset shards.

use std::{fs::File, io::BufWriter, path::Path};

use serde_json::json;

use super::{Draft, ImageFormat, at, for_each_encoded};
use crate::scenes::{SceneSample, Scenes, ScenesError, Split, captions::RewriteStyle};

type Shard = tar::Builder<BufWriter<File>>;

/// Writes `00000.tar`, `00001.tar`, ... of `shard_size` samples each into a new folder, and `sizes.json` with the number of
/// samples per shard.
///
/// Each sample has an image, `.txt` (the web caption), `.cls` (the label) and `.json` (every caption by field: `web`,
/// `web_kind`, `chatgpt`, `bard`, `mscoco`, `human`, `synthetic`, and the list `test`).
///
/// # Errors
///
/// [`ScenesError`] if the folder exists or cannot be written.
pub fn write_webdataset(
    world: &Scenes,
    split: Split,
    folder: &Path,
    shard_size: usize,
    format: ImageFormat,
) -> Result<(), ScenesError> {
    let draft = Draft::new(folder)?;
    let shard_size = shard_size.max(1);
    let mut sizes = serde_json::Map::new();
    let mut shard: Option<Shard> = None;
    let mut written = 0;
    for_each_encoded(world, split, format, |sample, image| {
        if written % shard_size == 0 {
            let name = format!("{:05}.tar", written / shard_size);
            sizes.insert(
                name.clone(),
                shard_size.min(world.len(split) - written).into(),
            );
            if let Some(full) = shard.take() {
                close(full, &draft)?;
            }
            let file = File::create(draft.path(&name)).map_err(at(&draft.path(&name)))?;
            shard = Some(tar::Builder::new(BufWriter::new(file)));
        }
        written += 1;
        let shard = shard.as_mut().expect("a shard is open");
        let members = [
            (format.extension(), image),
            ("txt", sample.captions.web.clone().into_bytes()),
            ("cls", sample.label.to_string().into_bytes()),
            ("json", captions(&sample).into_bytes()),
        ];
        members
            .into_iter()
            .try_for_each(|(extension, bytes)| {
                append(shard, &format!("{}.{extension}", sample.key), &bytes)
            })
            .map_err(at(draft.folder.path()))
    })?;
    if let Some(last) = shard.take() {
        close(last, &draft)?;
    }
    draft.write("sizes.json", serde_json::Value::from(sizes).to_string())?;
    draft.finish()
}

fn close(shard: Shard, draft: &Draft) -> Result<(), ScenesError> {
    let flushed = shard
        .into_inner()
        .and_then(|file| file.into_inner().map_err(|e| e.into_error()));
    flushed.map(drop).map_err(at(draft.folder.path()))
}

fn append(shard: &mut Shard, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    // No owner and no time, so that equal worlds give equal files.
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    shard.append_data(&mut header, name, bytes)
}

fn captions(sample: &SceneSample) -> String {
    let captions = &sample.captions;
    let mut fields = json!({
        "key": sample.key,
        "label": sample.label,
        "web": captions.web,
        "web_kind": captions.web_kind,
        "synthetic": captions.synthetic,
        "test": captions.test,
    });
    for (style, text) in RewriteStyle::ALL.iter().zip(&captions.rewrites) {
        fields[style.name()] = text.as_str().into();
    }
    fields.to_string()
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io::Read};

    use super::super::tests::small_world;
    use super::*;

    #[test]
    fn shards_hold_every_sample_in_order() {
        let world = small_world();
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("shards");
        write_webdataset(&world, Split::Train, &folder, 4, ImageFormat::Png).unwrap();
        let sizes = std::fs::read_to_string(folder.join("sizes.json")).unwrap();
        assert_eq!(sizes, r#"{"00000.tar":4,"00001.tar":3}"#);

        let mut members = HashMap::new();
        for shard in ["00000.tar", "00001.tar"] {
            let mut archive = tar::Archive::new(File::open(folder.join(shard)).unwrap());
            for entry in archive.entries().unwrap() {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().display().to_string();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                members.insert(name, bytes);
            }
        }
        assert_eq!(members.len(), 7 * 4);
        for index in 0..7 {
            let sample = world.sample(Split::Train, index);
            let image = image::load_from_memory(&members[&format!("{}.png", sample.key)]).unwrap();
            assert_eq!(image.to_rgb8(), sample.image);
            assert_eq!(
                members[&format!("{}.txt", sample.key)],
                sample.captions.web.as_bytes()
            );
            assert_eq!(
                members[&format!("{}.cls", sample.key)],
                sample.label.to_string().as_bytes()
            );
            let json: serde_json::Value =
                serde_json::from_slice(&members[&format!("{}.json", sample.key)]).unwrap();
            assert_eq!(json["mscoco"], sample.captions.rewrites[2]);
            assert_eq!(json["synthetic"], sample.captions.synthetic);
            assert_eq!(json["test"][4], sample.captions.test[4]);
        }
    }
}
