//! Names in the released files.

use crate::adapter::AdapterConfig;
use crate::error::{Error, Result};
use clip::checkpoint::StateDict;
use std::path::Path;

/// What stands before the names of an adapter, and whether it brings its input to unit length.
const PREFIXES: [(&str, bool); 3] = [
    // Released code: the `.pt` files.
    ("text.text_adaptor.", true),
    // Seen by others in the files of Hugging Face's `LLM2CLIPModel`; the names behind it are inferred.
    ("text_adapter.adaptor.", true),
    // Released code for a live language model, which lies under `text.text.`: the code switches it off. What the released
    // file was trained with is unknown.
    ("text.text_proj.text_adaptor.", false),
];

/// What stands before the names of the adapter.
pub(crate) fn prefix(dict: &StateDict) -> Option<(&'static str, bool)> {
    PREFIXES.into_iter().find(|(prefix, _)| {
        dict.names().any(|name| {
            name.strip_prefix("module.")
                .unwrap_or(name)
                .starts_with(prefix)
        })
    })
}

/// The preset of a vision tower, which bare files do not name.
pub(crate) fn preset(dict: &StateDict) -> Option<&'static str> {
    let shape = |name: &str| {
        Some(
            dict.get(name)
                .or(dict.get(&format!("module.{name}")))?
                .shape()
                .to_vec(),
        )
    };
    if let Some([1, 256, 1152]) = shape("visual.trunk.pos_embed").as_deref() {
        return Some("ViT-SO400M-14-SigLIP2");
    }
    match (
        shape("visual.pos_embed")?.as_slice(),
        shape("visual.patch_embed.proj.weight")?.as_slice(),
    ) {
        ([1, 197, 768], [.., 16]) => Some("EVA02-B-16"),
        ([1, 257, 1024], [.., 14]) => Some("EVA02-L-14"),
        ([1, 577, 1024], [.., 14]) => Some("EVA02-L-14-336"),
        _ => None,
    }
}

/// The adapter of a released file: its architecture by the shapes, its weights under our names.
pub(crate) fn adapter(
    dict: StateDict,
    path: &Path,
    normalize: Option<bool>,
) -> Result<(AdapterConfig, StateDict)> {
    let Some((prefix, of_code)) = prefix(&dict) else {
        return Err(Error::format(
            path,
            "no text adapter among the tensors: LLM2CLIP's EVA-02 directories have none, take the .pt file of the release",
        ));
    };
    let dict = dict.rename(|name| {
        let name = name.strip_prefix("module.").unwrap_or(name);
        name.strip_prefix(prefix).map(Into::into)
    });
    let blocks = (0..)
        .take_while(|i| dict.get(&format!("{i}.fn.0.weight")).is_some())
        .count();
    let shape = |name: String| match dict.get(&name).map(|tensor| tensor.shape()) {
        Some([rows, columns]) => Ok([*rows, *columns]),
        _ => Err(Error::format(
            path,
            format!("no matrix `{prefix}{name}` of the text adapter"),
        )),
    };
    let [embed_dim, width] = shape(format!("{}.weight", blocks + 1))?;
    let expansion = match blocks {
        0 => 2,
        _ => shape("0.fn.0.weight".into())?[0] / width.max(1),
    };
    let config = AdapterConfig {
        width,
        embed_dim,
        blocks,
        expansion,
        normalize: normalize.unwrap_or(of_code),
    };
    let weights = dict.rename(|name| Some(ours(name, blocks).unwrap_or_else(|| name.to_string())));
    Ok((config, weights))
}

/// `2.fn.3.weight` → `blocks.2.down.weight`.
fn ours(name: &str, blocks: usize) -> Option<String> {
    let (number, rest) = name.split_once('.')?;
    let number: usize = number.parse().ok()?;
    if number == blocks {
        return Some(format!("norm.{rest}"));
    }
    if number == blocks + 1 {
        return Some(format!("proj.{rest}"));
    }
    let renamed = [("fn.0.", "up."), ("fn.3.", "down."), ("ln.", "ln.")];
    let rest = renamed
        .iter()
        .find_map(|(from, to)| Some(format!("{to}{}", rest.strip_prefix(from)?)));
    Some(format!("blocks.{number}.{}", rest?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_release_lead_to_ours() {
        for (theirs, expected) in [
            ("0.fn.0.weight", "blocks.0.up.weight"),
            ("3.fn.3.bias", "blocks.3.down.bias"),
            ("1.ln.weight", "blocks.1.ln.weight"),
            ("4.bias", "norm.bias"),
            ("5.weight", "proj.weight"),
        ] {
            assert_eq!(ours(theirs, 4).as_deref(), Some(expected));
        }
        assert_eq!(ours("2.fn.1.weight", 4), None);
    }
}
