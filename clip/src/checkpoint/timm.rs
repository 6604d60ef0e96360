//! timm's vision transformers under `visual.trunk.`, as open_clip stores SigLIP and EVA-02, and EVA-CLIP's own files.
//!
//! One table serves both directions.

use super::state_dict::{HostTensor, StateDict};

/// Where open_clip keeps a tower of timm.
const TRUNK: &str = "visual.trunk.";

/// Beginnings of names outside the blocks, timm's on the left.
const ROOTS: [(&str, &str); 8] = [
    ("cls_token", "class_embedding"),
    ("pos_embed", "positional_embedding"),
    ("patch_embed.proj.", "conv1."),
    ("norm.", "ln_post."),
    ("attn_pool.mlp.fc1.", "attn_pool.mlp.c_fc."),
    ("attn_pool.mlp.fc2.", "attn_pool.mlp.c_proj."),
    ("attn_pool.", "attn_pool."),
    ("head.", "head."),
];

/// Beginnings of names within a block of a plain vision transformer.
const IN_VIT_BLOCK: [(&str, &str); 7] = [
    ("norm1.", "ln_1."),
    ("norm2.", "ln_2."),
    ("attn.qkv.weight", "attn.in_proj_weight"),
    ("attn.qkv.bias", "attn.in_proj_bias"),
    ("attn.proj.", "attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
];

/// The same of EVA-02.
const IN_EVA_BLOCK: [(&str, &str); 11] = [
    ("norm1.", "ln_1."),
    ("norm2.", "ln_2."),
    ("attn.q_proj.", "attn.q_proj."),
    ("attn.k_proj.", "attn.k_proj."),
    ("attn.v_proj.", "attn.v_proj."),
    ("attn.norm.", "attn.ln_inner."),
    ("attn.proj.", "attn.out_proj."),
    ("mlp.fc1_g.", "mlp.gate."),
    ("mlp.fc1_x.", "mlp.value."),
    ("mlp.norm.", "mlp.ln_inner."),
    ("mlp.fc2.", "mlp.c_proj."),
];

/// EVA-CLIP's own names within a block, where they are not timm's.
const IN_EVA_CLIP_BLOCK: [(&str, &str); 7] = [
    ("attn.q_bias", "attn.q_proj.bias"),
    ("attn.v_bias", "attn.v_proj.bias"),
    ("attn.inner_attn_ln.", "attn.ln_inner."),
    ("mlp.w1.", "mlp.gate."),
    ("mlp.w2.", "mlp.value."),
    ("mlp.ffn_ln.", "mlp.ln_inner."),
    ("mlp.w3.", "mlp.c_proj."),
];

/// Whether a model of open_clip has a tower of timm.
pub(super) fn is_trunk(dict: &StateDict) -> bool {
    dict.get("visual.trunk.patch_embed.proj.weight").is_some()
}

/// Whether it is a file of EVA-CLIP, with sub-LN and a gated MLP.
pub(super) fn is_eva_clip(dict: &StateDict) -> bool {
    dict.get("visual.blocks.0.attn.inner_attn_ln.weight")
        .is_some()
}

/// open_clip's names → ours. What no table knows keeps its name, and is refused when the weights are applied.
pub(super) fn from_trunk(dict: StateDict) -> StateDict {
    let eva = dict
        .get("visual.trunk.blocks.0.attn.q_proj.weight")
        .is_some();
    let in_block: &[_] = match eva {
        true => &IN_EVA_BLOCK,
        false => &IN_VIT_BLOCK,
    };
    let dict = dict.rename(|name| {
        let Some(rest) = name.strip_prefix(TRUNK) else {
            return Some(name.to_string());
        };
        Some(ours(rest, in_block).unwrap_or_else(|| name.to_string()))
    });
    without_unit_axes(dict)
}

/// EVA-CLIP's names → ours. Its rotary tables are computed anew; the logit scale of its earlier files is the text tower's.
pub(super) fn from_eva_clip(dict: StateDict) -> StateDict {
    let in_block: Vec<_> = IN_EVA_CLIP_BLOCK.into_iter().chain(IN_EVA_BLOCK).collect();
    let dict = dict.rename(|name| {
        if name == "text.logit_scale" {
            return Some("logit_scale".into());
        }
        let Some(rest) = name.strip_prefix("visual.") else {
            return Some(name.to_string());
        };
        let table = ["rope.freqs_cos", "rope.freqs_sin"];
        if table.iter().any(|table| rest.ends_with(table)) {
            return None;
        }
        Some(ours(rest, &in_block).unwrap_or_else(|| name.to_string()))
    });
    without_unit_axes(dict)
}

/// Our names → open_clip's for a tower of timm; the text tower and the scalars stay.
pub(super) fn to_trunk(dict: StateDict) -> StateDict {
    let eva = dict
        .get("visual.transformer.resblocks.0.attn.q_proj.weight")
        .is_some();
    dict.into_iter()
        .map(|(name, tensor)| match name.strip_prefix("visual.") {
            Some(rest) => (trunk_name(&name, eva), with_unit_axes(rest, tensor)),
            None => (name, tensor),
        })
        .collect()
}

/// open_clip's name of a parameter of ours, where its tower is timm's: EVA-02 or a plain one. Values are never turned or
/// joined on the way, only unit axes come on top.
pub(super) fn trunk_name(name: &str, eva: bool) -> String {
    let Some(rest) = name.strip_prefix("visual.") else {
        return name.to_string();
    };
    let in_block: &[_] = match eva {
        true => &IN_EVA_BLOCK,
        false => &IN_VIT_BLOCK,
    };
    let renamed = theirs(rest, in_block).unwrap_or_else(|| rest.to_string());
    format!("{TRUNK}{renamed}")
}

fn ours(rest: &str, in_block: &[(&str, &str)]) -> Option<String> {
    let renamed = match rest.strip_prefix("blocks.") {
        Some(block) => {
            let (number, rest) = block.split_once('.')?;
            format!(
                "transformer.resblocks.{number}.{}",
                replaced(rest, in_block.iter().copied())?
            )
        }
        None => replaced(rest, ROOTS.into_iter())?,
    };
    Some(format!("visual.{renamed}"))
}

fn theirs(rest: &str, in_block: &[(&str, &str)]) -> Option<String> {
    let turned = |(theirs, ours)| (ours, theirs);
    match rest.strip_prefix("transformer.resblocks.") {
        Some(block) => {
            let (number, rest) = block.split_once('.')?;
            let rest = replaced(rest, in_block.iter().copied().map(turned))?;
            Some(format!("blocks.{number}.{rest}"))
        }
        None => replaced(rest, ROOTS.into_iter().map(turned)),
    }
}

fn replaced<'a>(name: &str, mut table: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    table.find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}

/// timm keeps unit axes: `[1, 1, width]` and `[1, tokens, width]`.
fn without_unit_axes(dict: StateDict) -> StateDict {
    dict.into_iter()
        .map(|(name, tensor)| {
            let shape = match (name.as_str(), tensor.shape()) {
                ("visual.class_embedding", [1, 1, width]) => vec![*width],
                ("visual.positional_embedding", [1, tokens, width]) => vec![*tokens, *width],
                ("visual.attn_pool.latent", [1, latents, width]) => vec![*latents, *width],
                _ => return (name, tensor),
            };
            (name, tensor.reshape(shape).expect("the same size"))
        })
        .collect()
}

fn with_unit_axes(name: &str, tensor: HostTensor) -> HostTensor {
    let unit = match name {
        "class_embedding" => vec![1, 1],
        "positional_embedding" | "attn_pool.latent" => vec![1],
        _ => return tensor,
    };
    let shape = [unit.as_slice(), tensor.shape()].concat();
    tensor.reshape(shape).expect("the same size")
}
