//! CLIP's towers, run so that the engine can replay their blocks.

use crate::trainer::Pass;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::nn::{Block, PatchDropout, l2_normalize};
use clip::text::TextTower;
use clip::vision::{VisionTower, Vit};

/// What the last block of a vision transformer gives for each token.
///
/// # Shapes
///
/// - image: `[batch, 3, height, width]`
/// - output: `[batch, 1 + patches, width]`
pub fn image_tokens<B: AutodiffBackend>(
    vit: &Vit<B>,
    image: Tensor<B, 4>,
    dropout: Option<PatchDropout>,
    pass: &mut Pass<B>,
) -> Tensor<B, 3> {
    let tokens = match dropout {
        None => vit.embed(image),
        Some(dropout) => {
            let images = image.dims()[0];
            let patches = vit.positional_embedding.val().dims()[0] - 1;
            let kept = dropout.draw(images, patches, pass.rng());
            let kept = TensorData::new(kept, [images, dropout.kept(patches)]);
            vit.embed_kept(image, Tensor::from_data(kept, pass.device()))
        }
    };
    pass.blocks(&vit.transformer.resblocks, tokens, |block: &Block<B>, x| {
        block.forward(x, None)
    })
}

/// Image embeddings.
///
/// # Shapes
///
/// - image: `[batch, 3, height, width]`
/// - output: `[batch, embed_dim]`, unit rows
pub fn embed_images<B: AutodiffBackend>(
    tower: &VisionTower<B>,
    image: Tensor<B, 4>,
    dropout: Option<PatchDropout>,
    pass: &mut Pass<B>,
) -> Tensor<B, 2> {
    l2_normalize(match tower.as_vit() {
        Some(vit) => vit.head(image_tokens(vit, image, dropout, pass)),
        None => tower.forward(image),
    })
}

/// Text embeddings.
///
/// # Shapes
///
/// - ids: `[batch, seq]`
/// - output: `[batch, embed_dim]`, unit rows
pub fn embed_texts<B: AutodiffBackend>(
    tower: &TextTower<B>,
    ids: Tensor<B, 2, Int>,
    pass: &mut Pass<B>,
) -> Tensor<B, 2> {
    l2_normalize(match tower.as_transformer() {
        Some(transformer) => {
            let mask = transformer.mask(&ids);
            let x = transformer.embed(ids.clone());
            let forward = move |block: &Block<B>, x| block.forward(x, mask.clone());
            let x = pass.blocks(&transformer.transformer.resblocks, x, forward);
            transformer.head(x, ids)
        }
        None => tower.forward(ids),
    })
}
