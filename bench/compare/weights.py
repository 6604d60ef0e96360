"""The weights of a CLIPModel of transformers in open_clip's model."""

import json
from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors import safe_open

BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2", "attn.out_proj": "self_attn.out_proj"}
ROOTS = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
BLOCKS = {"visual.transformer.resblocks.": "vision_model.encoder.layers.", "transformer.resblocks.": "text_model.encoder.layers."}


def tensor(file, name):
    """A parameter of open_clip's out of transformers' file."""
    for prefix, theirs in BLOCKS.items():
        if name.startswith(prefix):
            number, rest = name[len(prefix):].split(".", 1)
            if rest.startswith("attn.in_proj_"):
                parts = (f"{theirs}{number}.self_attn.{part}_proj.{rest[len('attn.in_proj_'):]}" for part in "qkv")
                return torch.cat([file.get_tensor(part) for part in parts])
            inner, kind = rest.rsplit(".", 1)
            return file.get_tensor(f"{theirs}{number}.{BLOCK[inner]}.{kind}")
    if name in TRANSPOSED:
        return file.get_tensor(TRANSPOSED[name]).T
    if name in ROOTS:
        return file.get_tensor(ROOTS[name])
    inner, kind = name.rsplit(".", 1)
    return file.get_tensor(f"{ROOTS[inner]}.{kind}")


@torch.no_grad()
def open_clip_model(folder):
    """The model in `folder`, tensor by tensor: never twice in memory."""
    model = CLIP(**json.loads((Path(folder) / "open_clip.json").read_text()))
    with safe_open(Path(folder) / "model.safetensors", "pt") as file:
        for name, parameter in model.named_parameters():
            parameter.copy_(tensor(file, name))
    return model
