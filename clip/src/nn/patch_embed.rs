use super::init::Init;
use super::linear;
use burn::module::Param;
use burn::prelude::*;
use rand::Rng;
use rand::seq::index::sample;

/// Splits an image into patches and projects each one.
///
/// The weight is that of a convolution whose stride is its kernel size; the product is one matrix multiplication.
#[derive(Module, Debug)]
pub struct PatchEmbed<B: Backend> {
    /// `[width, 3, patch_size, patch_size]`.
    pub weight: Param<Tensor<B, 4>>,
    /// `[width]`; absent in OpenAI's and open_clip's towers.
    pub bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> PatchEmbed<B> {
    /// PyTorch's default initialization of a convolution.
    pub fn new(
        width: usize,
        patch_size: usize,
        bias: bool,
        init: &mut Init,
        device: &Device<B>,
    ) -> Self {
        let bound = ((3 * patch_size * patch_size) as f64).powf(-0.5);
        Self {
            weight: init.uniform([width, 3, patch_size, patch_size], bound, device),
            bias: bias.then(|| init.uniform([width], bound, device)),
        }
    }

    /// # Shapes
    ///
    /// - image: `[batch, 3, height, width]`; pixels beyond the last whole patch are not seen, as by a convolution
    /// - output: `[batch, patches, channels]`, patches row by row
    pub fn forward(&self, image: Tensor<B, 4>) -> Tensor<B, 3> {
        let [batch, _, height, width] = image.dims();
        let [channels, _, patch, _] = self.weight.dims();
        let (rows, columns) = (height / patch, width / patch);
        let image = match (height % patch, width % patch) {
            (0, 0) => image,
            _ => image
                .narrow(2, 0, rows * patch)
                .narrow(3, 0, columns * patch),
        };
        let patches = image
            .reshape([batch, 3, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5]) // [batch, rows, columns, 3, patch, patch]
            .reshape([batch, rows * columns, 3 * patch * patch]);
        let weight = self.weight.val().reshape([channels, 3 * patch * patch]);
        linear(patches, weight, self.bias.as_ref().map(|bias| bias.val()))
    }
}

/// Training on a random subset of the patches of each image (Li et al., 2023, "FLIP").
///
/// The subset is drawn on the host with the rest of the batch, so a second pass over the batch sees the same patches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PatchDropout {
    /// Share of the patches that is left out.
    pub prob: f64,
}

impl PatchDropout {
    /// Patches kept of every image: at least one.
    pub fn kept(&self, patches: usize) -> usize {
        ((patches as f64 * (1.0 - self.prob)) as usize).max(1)
    }

    /// Indices of the kept patches, `[images, kept]` row by row, without repeats within a row.
    pub fn draw(&self, images: usize, patches: usize, rng: &mut impl Rng) -> Vec<i32> {
        let kept = self.kept(patches);
        (0..images)
            .flat_map(|_| {
                sample(rng, patches, kept)
                    .into_iter()
                    .map(|i| i as i32)
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}
