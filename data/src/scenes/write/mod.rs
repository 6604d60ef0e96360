//! Writes a split in the formats in which the real datasets come.
//!
//! Every writer makes one folder. It is filled under another name beside its place and moved there at the end, so a
//! folder that exists is whole; one that exists already is never touched.

mod cc3m;
mod imagenet;
mod karpathy;
mod webdataset;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use image::ImageEncoder;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use self::{
    cc3m::write_cc3m, imagenet::write_imagenet, karpathy::write_karpathy,
    webdataset::write_webdataset,
};

use super::{SceneSample, Scenes, ScenesError, Split};

/// How images are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageFormat {
    /// Lossless.
    #[default]
    Png,
    /// Baseline JPEG of quality 95.
    Jpg,
    /// Lossless WebP.
    Webp,
}

impl ImageFormat {
    /// File extension without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpg => "jpg",
            Self::Webp => "webp",
        }
    }
}

impl SceneSample {
    /// The image as a file of the given format.
    ///
    /// # Errors
    ///
    /// [`ScenesError::Encode`] if the encoder fails.
    pub fn encode(&self, format: ImageFormat) -> Result<Vec<u8>, ScenesError> {
        let mut bytes = Vec::new();
        let (pixels, [width, height]) = (self.image.as_raw(), self.image.dimensions().into());
        let colour = image::ExtendedColorType::Rgb8;
        let done = match format {
            ImageFormat::Png => {
                PngEncoder::new(&mut bytes).write_image(pixels, width, height, colour)
            }
            ImageFormat::Jpg => JpegEncoder::new_with_quality(&mut bytes, 95)
                .write_image(pixels, width, height, colour),
            ImageFormat::Webp => {
                WebPEncoder::new_lossless(&mut bytes).write_image(pixels, width, height, colour)
            }
        };
        done.map_err(|source| ScenesError::Encode {
            key: self.key.clone(),
            source,
        })?;
        Ok(bytes)
    }
}

/// Samples made at once: enough to keep every core busy, few enough to hold in memory.
const CHUNK: usize = 512;

/// Gives every sample of a split, encoded on all cores, to `each` in order.
fn for_each_encoded(
    world: &Scenes,
    split: Split,
    format: ImageFormat,
    mut each: impl FnMut(SceneSample, Vec<u8>) -> Result<(), ScenesError>,
) -> Result<(), ScenesError> {
    let len = world.len(split);
    for start in (0..len).step_by(CHUNK) {
        let chunk: Vec<_> = (start..len.min(start + CHUNK))
            .into_par_iter()
            .map(|index| {
                let sample = world.sample(split, index);
                sample.encode(format).map(|bytes| (sample, bytes))
            })
            .collect::<Result<_, _>>()?;
        chunk
            .into_iter()
            .try_for_each(|(sample, bytes)| each(sample, bytes))?;
    }
    Ok(())
}

/// A folder that is not yet at its place.
struct Draft {
    folder: tempfile::TempDir,
    place: PathBuf,
}

impl Draft {
    fn new(place: &Path) -> Result<Self, ScenesError> {
        if place.exists() {
            return Err(ScenesError::Exists {
                path: place.to_owned(),
            });
        }
        let parent = match place.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).map_err(at(parent))?;
        let folder = tempfile::Builder::new()
            .prefix(".scenes-")
            .tempdir_in(parent)
            .map_err(at(parent))?;
        Ok(Self {
            folder,
            place: place.to_owned(),
        })
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    fn create_dir(&self, name: &str) -> Result<(), ScenesError> {
        let path = self.path(name);
        fs::create_dir_all(&path).map_err(at(&path))
    }

    /// Stores every image of a split as `images/NAME.EXTENSION` and gives its sample with this path to `each`, in order.
    fn write_images(
        &self,
        (world, split): (&Scenes, Split),
        format: ImageFormat,
        name: impl Fn(&SceneSample) -> String,
        mut each: impl FnMut(SceneSample, String) -> Result<(), ScenesError>,
    ) -> Result<(), ScenesError> {
        self.create_dir("images")?;
        for_each_encoded(world, split, format, |sample, image| {
            let path = format!("images/{}.{}", name(&sample), format.extension());
            self.write(&path, image)?;
            each(sample, path)
        })
    }

    fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<(), ScenesError> {
        let path = self.path(name);
        fs::write(&path, content).map_err(at(&path))
    }

    /// Moves the folder to its place.
    fn finish(self) -> Result<(), ScenesError> {
        // A temporary folder is private to its owner; a dataset is as readable as the folder it lies in.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let readable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(self.folder.path(), readable).map_err(at(&self.place))?;
        }
        fs::rename(self.folder.path(), &self.place).map_err(at(&self.place))?;
        // The folder is gone from its old name: there is nothing left to remove.
        let _ = self.folder.keep();
        Ok(())
    }
}

/// Adds the path to an error.
fn at(path: &Path) -> impl FnOnce(io::Error) -> ScenesError {
    let path = path.to_owned();
    move |source| ScenesError::Write { path, source }
}

/// Lines as a text file.
fn text_file<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> String {
    lines
        .into_iter()
        .map(|line| format!("{}\n", line.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::ScenesConfig;
    use super::*;

    pub(super) fn small_world() -> Scenes {
        let sizes = ScenesConfig {
            train_size: 7,
            validation_size: 0,
            test_size: 5,
            ..Default::default()
        };
        Scenes::new(ScenesConfig {
            image_size: 32,
            shapes: 2,
            colours: 2,
            ..sizes
        })
        .unwrap()
    }

    #[test]
    fn lossless_formats_give_the_pixels_back() {
        let sample = small_world().sample(Split::Train, 0);
        for format in [ImageFormat::Png, ImageFormat::Webp] {
            let bytes = sample.encode(format).unwrap();
            assert_eq!(
                image::load_from_memory(&bytes).unwrap().to_rgb8(),
                sample.image
            );
        }
        let jpeg = image::load_from_memory(&sample.encode(ImageFormat::Jpg).unwrap()).unwrap();
        assert_eq!(jpeg.to_rgb8().dimensions(), (32, 32));
    }

    #[test]
    fn a_folder_that_exists_is_refused_and_an_unfinished_one_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("deep/set");
        let draft = Draft::new(&place).unwrap();
        draft.write("a.txt", "a").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(root.path().join("deep")).unwrap().count(), 0);

        let draft = Draft::new(&place).unwrap();
        draft.write("a.txt", "b").unwrap();
        draft.finish().unwrap();
        assert_eq!(fs::read_to_string(place.join("a.txt")).unwrap(), "b");
        assert_eq!(fs::read_dir(root.path().join("deep")).unwrap().count(), 1);
        assert!(matches!(
            Draft::new(&place),
            Err(ScenesError::Exists { .. })
        ));
    }
}
