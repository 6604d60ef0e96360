//! Many images at once: one buffer on the host, one upload, normalised on the device.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::backend::Backend;
use burn::tensor::{AllocationProperty, Bytes, DType, Int, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;

use super::{ImageError, Preprocess, PreprocessConfig, open};

/// Preprocessed images, ready to upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PixelBatch {
    /// RGB samples, `[n, height, width, 3]` row-major. Clones share them: a batch is used more than once in a step that computes
    /// its embeddings twice.
    pub pixels: Arc<Vec<u8>>,
    /// Number of images.
    pub n: usize,
    /// Height of every image in pixels.
    pub height: usize,
    /// Width of every image in pixels.
    pub width: usize,
}

impl Preprocess {
    /// Preprocesses all images, in parallel.
    ///
    /// # Panics
    ///
    /// Panics if an image has a side of zero; decoded images have none.
    pub fn batch(&self, images: &[RgbImage]) -> PixelBatch {
        let mut pixels = vec![0; images.len() * self.image_bytes()];
        let slots = pixels.par_chunks_exact_mut(self.image_bytes());
        images
            .par_iter()
            .zip(slots)
            .for_each(|(image, slot)| self.apply_into(image, slot));
        self.batch_of(images.len(), pixels)
    }

    /// Reads, decodes and preprocesses image files, in parallel.
    ///
    /// The batch holds the readable images in the order of `paths`; the results, one per path, say
    /// which are missing from it and why.
    pub fn load_batch<P: AsRef<Path> + Sync>(
        &self,
        paths: &[P],
    ) -> (PixelBatch, Vec<Result<(), ImageError>>) {
        let len = self.image_bytes();
        let mut pixels = vec![0; paths.len() * len];
        let slots = pixels.par_chunks_exact_mut(len);
        let results: Vec<_> = paths
            .par_iter()
            .zip(slots)
            .map(|(path, slot)| open(path.as_ref()).map(|image| self.apply_into(&image, slot)))
            .collect();
        // Those that are there, without gaps.
        let mut kept = 0;
        for i in (0..paths.len()).filter(|&i| results[i].is_ok()) {
            pixels.copy_within(i * len..(i + 1) * len, kept * len);
            kept += 1;
        }
        pixels.truncate(kept * len);
        (self.batch_of(kept, pixels), results)
    }

    fn image_bytes(&self) -> usize {
        self.config().size[0] * self.config().size[1] * 3
    }

    fn batch_of(&self, n: usize, pixels: Vec<u8>) -> PixelBatch {
        let [height, width] = self.config().size;
        PixelBatch {
            pixels: pixels.into(),
            n,
            height,
            width,
        }
    }
}

impl PixelBatch {
    /// Images that have the model's size already, such as augmented ones.
    ///
    /// # Panics
    ///
    /// Panics if they differ in size.
    pub fn of(images: Vec<RgbImage>) -> Self {
        let (width, height) = images.first().map_or((0, 0), |image| image.dimensions());
        assert!(
            images
                .iter()
                .all(|image| image.dimensions() == (width, height)),
            "the images of a batch have one size"
        );
        let rows: Vec<&[u8]> = images.iter().map(|image| &image.as_raw()[..]).collect();
        Self {
            n: images.len(),
            height: height as usize,
            width: width as usize,
            pixels: rows.concat().into(),
        }
    }

    /// Uploads the pixels and normalises them: `(x / 255 - mean) / std` in `f32`.
    ///
    /// Bytes travel as bytes where the backend has them, a quarter of the traffic of floats. Where nothing travels, the host looks
    /// the 256 values of each channel up, and so does the device where it has a kernel for it: the same numbers in one pass.
    ///
    /// # Shapes
    ///
    /// - output: `[n, 3, height, width]`
    pub fn to_tensor<B: Backend>(
        self,
        config: &PreprocessConfig,
        device: &B::Device,
    ) -> Tensor<B, 4> {
        let tables = tables(config);
        let shape = [self.n, 3, self.height, self.width];
        if kernels::in_host_memory::<B>() {
            let data = TensorData::new(self.looked_up(&tables), shape);
            return Tensor::from_data(data, (device, DType::F32));
        }
        let bytes = bytes::Bytes::from_owner(Shared(self.pixels));
        let bytes = Bytes::from_shared(bytes, AllocationProperty::Native);
        let bytes = match kernels::look_up::<B>(bytes, self.n, &tables, device) {
            Ok(channels) => return channels.reshape(shape),
            Err(bytes) => bytes,
        };
        let shape = [self.n, self.height, self.width, 3];
        let length = [bytes.len()];
        // In one row: of more axes burn's CUDA backend pads the last one, here from 3 bytes to 16, and copies row by row.
        let pixels = if B::supports_dtype(device, DType::U8) {
            let data = TensorData::from_bytes(bytes, length, DType::U8);
            Tensor::<B, 1, Int>::from_data(data, (device, DType::U8))
                .reshape(shape)
                .float()
                .cast(DType::F32)
        } else {
            let floats: Vec<f32> = bytes.iter().copied().map(f32::from).collect();
            let floats = TensorData::new(floats, length);
            Tensor::<B, 1>::from_data(floats, (device, DType::F32)).reshape(shape)
        };
        let per_channel = |values: [f32; 3]| {
            let data = TensorData::new(values.to_vec(), [1, 3, 1, 1]);
            Tensor::<B, 4>::from_data(data, (device, DType::F32))
        };
        let unit = pixels.permute([0, 3, 1, 2]).div_scalar(255.0);
        (unit - per_channel(config.mean)) / per_channel(config.std)
    }

    /// `[n, 3, height, width]` on the host.
    fn looked_up(&self, tables: &[[f32; 256]; 3]) -> Vec<f32> {
        let plane = self.height * self.width;
        let mut out = vec![0f32; self.pixels.len()];
        let images = out.par_chunks_mut((3 * plane).max(1));
        let images = images.zip(self.pixels.par_chunks((3 * plane).max(1)));
        images.for_each(|(out, pixels)| {
            for (channel, (out, table)) in out.chunks_mut(plane).zip(tables).enumerate() {
                for (out, pixel) in out.iter_mut().zip(pixels.chunks_exact(3)) {
                    *out = table[usize::from(pixel[channel])];
                }
            }
        });
        out
    }
}

/// What each byte of a channel becomes.
fn tables(config: &PreprocessConfig) -> [[f32; 256]; 3] {
    std::array::from_fn(|channel| {
        let (mean, std) = (config.mean[channel], config.std[channel]);
        std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)
    })
}

/// Pixels as an owner of bytes.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::OPENAI_MEAN;
    use super::*;
    use burn_flex::Flex;

    fn preprocess() -> Preprocess {
        Preprocess::new(PreprocessConfig {
            size: [4, 4],
            ..Default::default()
        })
    }

    fn noise(seed: u32, width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let v = (x * 37 + y * 91 + seed * 17).wrapping_mul(2_654_435_761);
            image::Rgb([v as u8, (v >> 8) as u8, (v >> 16) as u8])
        })
    }

    #[test]
    fn a_batch_is_its_images_one_after_the_other() {
        let images: Vec<_> = (0..5).map(|i| noise(i, 5 + i, 9)).collect();
        let batch = preprocess().batch(&images);
        let one_by_one: Vec<u8> = images
            .iter()
            .flat_map(|image| preprocess().apply(image).into_raw())
            .collect();
        assert_eq!(*batch.pixels, one_by_one);
        assert_eq!((batch.n, batch.height, batch.width), (5, 4, 4));
    }

    #[test]
    fn an_unreadable_file_is_reported_and_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let paths = ["a.png", "b.png", "c.png"].map(|name| dir.path().join(name));
        noise(1, 6, 6).save(&paths[0]).unwrap();
        std::fs::write(&paths[1], b"hello").unwrap();
        noise(2, 6, 6).save(&paths[2]).unwrap();
        let (batch, results) = preprocess().load_batch(&paths);
        assert_eq!(batch, preprocess().batch(&[noise(1, 6, 6), noise(2, 6, 6)]));
        assert_eq!(
            results.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, false, true]
        );
        assert!(
            results[1]
                .as_ref()
                .unwrap_err()
                .to_string()
                .contains("b.png")
        );
    }

    #[test]
    fn the_tensor_is_channels_first_and_normalised() {
        let image = RgbImage::from_fn(4, 4, |x, y| image::Rgb([x as u8 * 50, y as u8 * 60, 255]));
        let config = preprocess().config().clone();
        let tensor = preprocess()
            .batch(&[image])
            .to_tensor::<Flex>(&config, &Default::default());
        assert_eq!(tensor.dims(), [1, 3, 4, 4]);
        let values = tensor.into_data().to_vec::<f32>().unwrap();
        let expected = |c: usize, level: f32| (level / 255.0 - config.mean[c]) / config.std[c];
        // Row 1, column 2 of each channel.
        for (c, level) in [100.0, 60.0, 255.0].into_iter().enumerate() {
            assert!((values[c * 16 + 4 + 2] - expected(c, level)).abs() < 1e-6);
        }
        assert_eq!(config.mean, OPENAI_MEAN);
    }
}
