//! CLIP's towers, run so that the engine can replay their blocks.

use crate::error::BoxError;
use crate::trainer::Pass;
use burn::prelude::*;
use burn::tensor::backend::AutodiffBackend;
use clip::nn::{Block, PatchDropout, l2_normalize};
use clip::text::TextTower;
use clip::vision::{Bottleneck, Eva02Block, VisionTower};

/// What the last block of a vision tower gives for each token.
///
/// # Shapes
///
/// - image: `[batch, 3, height, width]`
/// - output: `[batch, prefix + patches, width]`; of a ResNet the output of its last stage, without prefix
///
/// # Errors
///
/// When patches shall be left out in a tower that cannot do without.
pub fn image_tokens<B: AutodiffBackend>(
    tower: &VisionTower<B>,
    image: Tensor<B, 4>,
    dropout: Option<PatchDropout>,
    pass: &mut Pass<B>,
) -> Result<Tensor<B, 3>, BoxError> {
    match (tower, dropout) {
        (VisionTower::Vit(vit), None) => {
            let tokens = vit.embed(image);
            Ok(pass.blocks(&vit.transformer.resblocks, tokens, plain))
        }
        (VisionTower::Vit(vit), Some(dropout)) => {
            let (images, patches) = (image.dims()[0], vit.patches());
            let kept = dropout.draw(images, patches, pass.rng());
            let kept = TensorData::new(kept, [images, dropout.kept(patches)]);
            let tokens = vit.embed_kept(image, Tensor::from_data(kept, pass.device()));
            Ok(pass.blocks(&vit.transformer.resblocks, tokens, plain))
        }
        (VisionTower::Eva02(eva), None) => {
            let (tokens, rope) = (eva.embed(image), eva.rope(pass.device()));
            let forward = move |block: &Eva02Block<B>, x| block.forward(x, &rope);
            Ok(pass.blocks(&eva.transformer.resblocks, tokens, forward))
        }
        (VisionTower::Eva02(_), Some(_)) => Err(
            "EVA-02 towers turn each patch by its place and take all of them: remove patch_dropout"
                .into(),
        ),
        (VisionTower::ResNet(resnet), None) => {
            let stages = resnet.stages().into_iter();
            let x = stages.fold(resnet.embed(image), |x, stage| {
                pass.blocks(stage, x, Bottleneck::forward)
            });
            Ok(x.swap_dims(1, 2))
        }
        (VisionTower::ResNet(_), Some(_)) => {
            Err("ResNets have no patches to leave out: remove patch_dropout".into())
        }
    }
}

fn plain<B: Backend>(block: &Block<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    block.forward(x, None)
}

/// Image embeddings.
///
/// # Shapes
///
/// - image: `[batch, 3, height, width]`
/// - output: `[batch, embed_dim]`, unit rows
///
/// # Errors
///
/// Those of [`image_tokens`].
pub fn embed_images<B: AutodiffBackend>(
    tower: &VisionTower<B>,
    image: Tensor<B, 4>,
    dropout: Option<PatchDropout>,
    pass: &mut Pass<B>,
) -> Result<Tensor<B, 2>, BoxError> {
    let tokens = image_tokens(tower, image, dropout, pass)?;
    Ok(l2_normalize(tower.head(tokens)))
}

/// What the last block of a text tower gives for each token.
///
/// # Shapes
///
/// - ids: `[batch, seq]`
/// - output: `[batch, seq, width]`; one token more where the tower adds one
pub fn text_tokens<B: AutodiffBackend>(
    tower: &TextTower<B>,
    ids: Tensor<B, 2, Int>,
    pass: &mut Pass<B>,
) -> Tensor<B, 3> {
    match tower {
        TextTower::Transformer(transformer) => {
            let mask = transformer.mask(&ids);
            let forward = move |block: &Block<B>, x| block.forward(x, mask.clone());
            let x = transformer.embed(ids);
            pass.blocks(&transformer.transformer.resblocks, x, forward)
        }
    }
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
    let tokens = text_tokens(tower, ids.clone(), pass);
    l2_normalize(tower.head(tokens, ids))
}
