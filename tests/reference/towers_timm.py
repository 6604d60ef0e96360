"""Tiny models whose vision towers open_clip takes from timm (SigLIP, EVA-02), and transformers' SiglipModel.

Run from the root of the repository: python tests/reference/towers_timm.py
Writes tests/fixtures/towers/{siglip,siglip2,siglip_hf,eva02}.safetensors as towers.py does (siglip2
without training). Sigmoid loss where the model has a bias.
"""

import json
from functools import partial
from pathlib import Path
from unittest.mock import patch

import timm
import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from transformers import SiglipConfig, SiglipModel

from towers import BATCH, CONTEXT, TEXT, VOCAB, contiguous, texts

OUT = Path("tests/fixtures/towers")
SIGLIP_TEXT = dict(no_causal_mask=True, proj_bias=True, pool_type="last", norm_kwargs=dict(eps=1e-6))
TANH = dict(act_kwargs=dict(approximate="tanh"))


def tower(name, pool, proj, image_size, **kwargs):
    """`vision_cfg` of a tower of timm in another shape."""
    kwargs = dict(img_size=image_size, patch_size=8, depth=2, num_heads=2) | kwargs
    return dict(image_size=image_size, timm_model_name=name, timm_pool=pool, timm_proj=proj, timm_model_kwargs=kwargs)


VARIANTS = {
    # 26 = 3 · 8 + 2: the last pixels are not seen, as in SO400M/14 at 384.
    "siglip": dict(
        embed_dim=16,
        init_logit_bias=-10,
        vision_cfg=tower("vit_base_patch16_siglip_224", "map", "none", 26, embed_dim=16),
        text_cfg=TEXT | SIGLIP_TEXT,
    ),
    "siglip2": dict(
        embed_dim=12,
        init_logit_bias=-10,
        vision_cfg=tower("vit_so400m_patch16_siglip_256", "map", "none", 24, embed_dim=12),
        text_cfg=TEXT | SIGLIP_TEXT | TANH | dict(mlp_ratio=3.7362),
    ),
    "eva02": dict(
        embed_dim=12,
        vision_cfg=tower("eva02_base_patch16_clip_224", "token", None, 24, embed_dim=16),
        text_cfg=TEXT,
    ),
}


def build(config):
    """open_clip 3 does not hand `timm_model_kwargs` on; later versions do."""
    config = json.loads(json.dumps(config))
    kwargs = config["vision_cfg"].pop("timm_model_kwargs")
    with patch("timm.create_model", partial(timm.create_model, **kwargs)):
        return CustomTextCLIP(**config).eval()


def hugging_face():
    """A SiglipModel and its configuration in open_clip's schema."""
    shape = dict(hidden_size=16, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
    config = SiglipConfig(
        text_config=dict(vocab_size=VOCAB, max_position_embeddings=CONTEXT, projection_size=16, **shape),
        vision_config=dict(image_size=24, patch_size=8, **shape),
    )
    vision = tower("vit_base_patch16_siglip_224", "map", "none", 24, embed_dim=16, mlp_ratio=3.0, act_layer="gelu_tanh")
    text = TEXT | SIGLIP_TEXT | TANH | dict(mlp_ratio=3.0)
    return SiglipModel(config).eval(), dict(embed_dim=16, init_logit_bias=-10, vision_cfg=vision, text_cfg=text)


def randomize(model, generator):
    """Every parameter away from its initial value, so that biases and gains matter."""
    with torch.no_grad():
        for name, param in model.named_parameters():
            noise = torch.randn(param.shape, generator=generator)
            if name == "logit_scale":
                param.fill_(2.0)
            elif name == "logit_bias":
                param.fill_(-3.0)
            else:
                gain = name.endswith("weight") and param.ndim == 1
                param.copy_(1 + 0.1 * noise if gain else 0.15 * noise)


def groups(model, decay):
    """No decay for vectors, positions and class embeddings."""
    exempt = ("positional_embedding", "position_embedding.weight", "pos_embed", "cls_token")
    with_decay, without = [], []
    for name, param in model.named_parameters():
        (without if param.ndim <= 1 or name.endswith(exempt) else with_decay).append(param)
    return [dict(params=without, weight_decay=0.0), dict(params=with_decay, weight_decay=decay)]


def features(model, image, ids):
    if isinstance(model, SiglipModel):
        return model.get_image_features(image).pooler_output, model.get_text_features(ids).pooler_output
    return model.encode_image(image), model.encode_text(ids)


def loss_of(model, image, ids):
    image_features, text_features = (F.normalize(x, dim=-1) for x in features(model, image, ids))
    bias = getattr(model, "logit_bias", None)
    if bias is None:
        return ClipLoss()(image_features, text_features, model.logit_scale.exp())
    return SigLipLoss()(image_features, text_features, model.logit_scale.exp(), bias)


def three_steps(model, image, ids):
    """Losses, the gradients of the first step, and the weights after the last; see towers.py."""
    out = {}
    optimizer = torch.optim.AdamW(groups(model, 0.2), lr=1e-3, betas=(0.9, 0.98), eps=1e-4)
    for step in range(3):
        optimizer.zero_grad()
        loss = loss_of(model, image, ids)
        loss.backward()
        out[f"loss.{step}"] = loss.reshape(1)
        if step == 0:
            out |= {f"grad.{k}": p.grad for k, p in model.named_parameters() if p.grad is not None}
            out = {key: value.detach().clone() for key, value in out.items()}
        optimizer.step()
    return out | {f"after.{key}": value for key, value in model.state_dict().items()}


def main():
    torch.set_num_threads(1)
    models = {name: (partial(build, config), config | {"custom_text": True}) for name, config in VARIANTS.items()}
    for seed, name in enumerate([*models, "siglip_hf"]):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        if name in models:
            make, config = models[name]
            model = make()
        else:
            model, config = hugging_face()
        randomize(model, generator)
        size = config["vision_cfg"]["image_size"]
        image = torch.randn(BATCH, 3, size, size, generator=generator)
        ids = texts(generator)
        out = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
        out |= {"image": image, "ids": ids.int()}
        with torch.no_grad():
            out["image_features"], out["text_features"] = features(model, image, ids)
        if name != "siglip2":
            # In double precision, so that the reference adds no rounding of its own.
            out |= three_steps(model.double(), image.double(), ids)
        path = OUT / f"{name}.safetensors"
        save_file(contiguous(out), path, metadata={"model_cfg": json.dumps(config)})
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
