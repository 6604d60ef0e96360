//! Naming schemes of released checkpoints → the names of our modules.
//!
//! Ours are open_clip's with the text tower nested under `text.`, as its `CustomTextCLIP` writes them.

use super::state_dict::{HostTensor, StateDict};
use super::{hugging_face, siglip, timm};
use crate::config::ModelConfig;
use crate::error::{Error, Result};
use std::path::Path;

/// Who wrote a checkpoint, by the names it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// open_clip and OpenAI, text tower at the root or under `text.`.
    OpenClip,
    /// open_clip with a vision tower of timm under `visual.trunk.`: SigLIP and EVA-02.
    Timm,
    /// EVA-CLIP's own files of EVA-02, and LLM2CLIP's.
    EvaClip,
    /// Hugging Face `CLIPModel`.
    HuggingFace,
    /// Hugging Face `SiglipModel`.
    HuggingFaceSiglip,
    /// SLIP and LaCLIP: timm's vision transformer beside OpenAI's text tower.
    Slip,
}

impl Scheme {
    /// Recognizes the scheme by names that no other has.
    pub fn of(dict: &StateDict) -> Option<Self> {
        let has = |name: &str| dict.get(name).is_some();
        if has("visual.conv1.weight") || has("visual.class_embedding") {
            Some(Self::OpenClip)
        } else if timm::is_trunk(dict) {
            Some(Self::Timm)
        } else if timm::is_eva_clip(dict) {
            Some(Self::EvaClip)
        } else if siglip::is_siglip(dict) {
            Some(Self::HuggingFaceSiglip)
        } else if has("vision_model.embeddings.patch_embedding.weight") {
            Some(Self::HuggingFace)
        } else if has("visual.patch_embed.proj.weight") && has("image_projection") {
            Some(Self::Slip)
        } else {
            None
        }
    }
}

/// Root names of a text tower that is not nested.
const TEXT_ROOTS: [&str; 6] = [
    "token_embedding.",
    "positional_embedding",
    "transformer.",
    "ln_final.",
    "text_projection",
    "cls_emb",
];

/// Entries that are no parameters: buffers of older versions and constants of TorchScript archives.
const IGNORED: [&str; 4] = [
    "input_resolution",
    "context_length",
    "vocab_size",
    "attn_mask",
];

/// The same within a tower. PyTorch counts the batches that a batch norm has seen, and uses the count only where its
/// statistics are plain averages.
const IGNORED_ENDS: [&str; 2] = ["position_ids", ".num_batches_tracked"];

/// Brings a checkpoint of any known scheme to our names and layouts.
///
/// # Errors
///
/// Names the file and some of its tensors if no scheme fits, or the tensor whose partner is missing.
pub fn canonical(dict: StateDict, path: &Path) -> Result<(Scheme, StateDict)> {
    let dict = strip_wrapper(dict);
    let scheme = Scheme::of(&dict).ok_or_else(|| {
        let names: Vec<_> = dict.names().take(6).collect();
        Error::format(
            path,
            format!(
                "the names of its tensors fit no known CLIP checkpoint (open_clip, OpenAI, \
                 EVA-CLIP, Hugging Face CLIPModel and SiglipModel, SLIP/LaCLIP); it begins with {}",
                names.join(", ")
            ),
        )
    })?;
    let dict = match scheme {
        Scheme::OpenClip => dict,
        Scheme::Timm => timm::from_trunk(dict),
        Scheme::EvaClip => timm::from_eva_clip(dict),
        Scheme::HuggingFace => hugging_face::canonical(dict, path)?,
        Scheme::HuggingFaceSiglip => siglip::canonical(dict, path)?,
        Scheme::Slip => slip(dict),
    };
    let dict = dict.rename(|name| {
        let ignored = IGNORED.contains(&name) || IGNORED_ENDS.iter().any(|end| name.ends_with(end));
        let nested = TEXT_ROOTS.iter().any(|root| name.starts_with(root));
        (!ignored).then(|| {
            if nested {
                format!("text.{name}")
            } else {
                name.to_string()
            }
        })
    });
    Ok((
        scheme,
        dict.into_iter()
            .map(|(name, tensor)| vector_scalars(name, tensor))
            .collect(),
    ))
}

/// Our name of a parameter as open_clip has it, where its tower is not timm's.
pub(super) fn open_clip_name(name: &str, custom_text: bool) -> &str {
    match custom_text {
        true => name,
        false => name.strip_prefix("text.").unwrap_or(name),
    }
}

/// Our names back to open_clip's, for a model of this configuration.
pub fn to_open_clip(dict: StateDict, config: &ModelConfig) -> StateDict {
    let dict = match config.vision_cfg.timm_model_name {
        Some(_) => timm::to_trunk(dict),
        None => dict,
    };
    let dict = dict.rename(|name| Some(open_clip_name(name, config.custom_text).to_string()));
    dict.into_iter()
        .map(|(name, tensor)| {
            let scalar = name == "logit_scale" || name == "logit_bias";
            let tensor = if scalar && !config.nonscalar_logit_scale {
                tensor.reshape([]).expect("one value")
            } else {
                tensor
            };
            (name, tensor)
        })
        .collect()
}

/// Distributed and compiled training and Lightning put their own prefix before every name.
fn strip_wrapper(dict: StateDict) -> StateDict {
    let prefixes = ["module.", "_orig_mod.", "model."];
    let wrapped = |dict: &StateDict, prefix: &str| {
        !dict.is_empty() && dict.names().all(|name| name.starts_with(prefix))
    };
    prefixes.iter().chain(&prefixes).fold(dict, |dict, prefix| {
        if !wrapped(&dict, prefix) {
            return dict;
        }
        dict.rename(|name| name.strip_prefix(prefix).map(str::to_string))
    })
}

/// Scalars are stored with shape `[]` or `[1]`; ours have `[1]`.
fn vector_scalars(name: String, tensor: HostTensor) -> (String, HostTensor) {
    if tensor.shape().is_empty() {
        let values = tensor.values();
        return (name, HostTensor::from_values(values, [1]));
    }
    (name, tensor)
}

fn slip(dict: StateDict) -> StateDict {
    let renames = [
        ("image_projection", "visual.proj"),
        ("visual.cls_token", "visual.class_embedding"),
        ("visual.pos_embed", "visual.positional_embedding"),
        ("visual.patch_embed.proj.", "visual.conv1."),
        ("visual.norm.", "visual.ln_post."),
    ];
    let in_block = [
        (".norm1.", ".ln_1."),
        (".norm2.", ".ln_2."),
        (".attn.q_norm.", ".attn.ln_q."),
        (".attn.k_norm.", ".attn.ln_k."),
        (".attn.qkv.weight", ".attn.in_proj_weight"),
        (".attn.qkv.bias", ".attn.in_proj_bias"),
        (".attn.proj.", ".attn.out_proj."),
        (".mlp.fc1.", ".mlp.c_fc."),
        (".mlp.fc2.", ".mlp.c_proj."),
    ];
    dict.rename(|name| {
        if let Some(rest) = name.strip_prefix("visual.blocks.") {
            let rest = in_block
                .iter()
                .fold(rest.to_string(), |name, (from, to)| name.replace(from, to));
            return Some(format!("visual.transformer.resblocks.{rest}"));
        }
        let renamed = renames
            .iter()
            .find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
        Some(renamed.unwrap_or_else(|| name.to_string()))
    })
    .into_iter()
    .map(|(name, tensor)| {
        // timm keeps unit axes: [1, 1, width] and [1, tokens, width].
        let shape = match (name.as_str(), tensor.shape()) {
            ("visual.class_embedding", [1, 1, width]) => vec![*width],
            ("visual.positional_embedding", [1, tokens, width]) => vec![*tokens, *width],
            _ => return (name, tensor),
        };
        let values = tensor.values();
        (name, HostTensor::from_values(values, shape))
    })
    .collect()
}
