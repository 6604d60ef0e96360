"""Tiny open_clip models: weights, inputs, outputs, gradients and three optimizer steps.

Run from the root of the repository: python tests/reference/towers.py
Writes tests/fixtures/towers/*.safetensors; the metadata of each file holds its `model_cfg`.
"""

import copy
import json
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file

OUT = Path("tests/fixtures/towers")
VOCAB, CONTEXT, SIZE, BATCH = 50, 9, 24, 4
EOT = VOCAB - 1

VISION = dict(image_size=SIZE, patch_size=8, width=16, layers=2, head_width=8)
TEXT = dict(context_length=CONTEXT, vocab_size=VOCAB, width=16, heads=2, layers=2)

VARIANTS = {
    "base": {},
    "quick_gelu": dict(quick_gelu=True),
    "clipa": dict(
        custom_text=True,
        vision=dict(no_ln_pre=True, pool_type="avg", final_ln_after_pool=True, norm_kwargs=dict(eps=1e-6)),
        text=dict(pool_type="last", no_causal_mask=True, act_kwargs=dict(approximate="tanh"), norm_kwargs=dict(eps=1e-6)),
    ),
    "average_pool": dict(vision=dict(pool_type="avg"), text=dict(pool_type="first", no_causal_mask=True)),
    "sin_cos": dict(vision=dict(pos_embed_type="sin_cos_2d"), text=dict(pool_type="eos", eos_id=EOT)),
    "layer_scale": dict(
        vision=dict(ls_init_value=0.3, head_width=4, mlp_ratio=4.3637),
        text=dict(ls_init_value=0.2, proj_bias=True),
        custom_text=True,
        init_logit_bias=-10.0,
    ),
    "class_embedding": dict(text=dict(embed_cls=True, pad_id=0), custom_text=True),
    "qk_norm": dict(vision=dict(qk_norm=True), text=dict(qk_norm=True, proj_type="none"), embed_dim=16, custom_text=True),
    "non_square": dict(vision=dict(image_size=[16, 24])),
}


def texts(generator):
    """Rows `start, words, end, padding` of different lengths."""
    ids = torch.zeros(BATCH, CONTEXT, dtype=torch.long)
    for row, length in enumerate([2, 5, 7, 3]):
        ids[row, 0] = EOT - 1
        ids[row, 1 : 1 + length] = torch.randint(1, EOT - 1, (length,), generator=generator)
        ids[row, 1 + length] = EOT
    return ids


def build(variant):
    variant = dict(variant)
    custom = variant.pop("custom_text", False)
    config = dict(
        embed_dim=variant.pop("embed_dim", 12),
        vision_cfg={**VISION, **variant.pop("vision", {})},
        text_cfg={**TEXT, **variant.pop("text", {})},
        **variant,
    )
    model = (CustomTextCLIP if custom else CLIP)(**config)
    if custom:
        config["custom_text"] = True
    return model.eval(), config


def randomize(model, generator):
    """Every parameter away from its initial value, so that biases and gains matter."""
    with torch.no_grad():
        for name, param in model.named_parameters():
            if "logit" in name or not param.requires_grad:
                continue
            noise = torch.randn(param.shape, generator=generator)
            gain = name.endswith(("ln_1.weight", "ln_2.weight", "ln_pre.weight", "ln_post.weight", "ln_final.weight",
                                  "ln_q.weight", "ln_k.weight"))
            param.copy_(1 + 0.1 * noise if gain else 0.15 * noise)


def groups(model, decay):
    """open_clip's rule: no decay for vectors, positions and class embeddings."""
    exempt = ("positional_embedding", "class_embedding", "cls_emb")
    with_decay, without = [], []
    for name, param in model.named_parameters():
        if param.requires_grad:
            (without if param.ndim <= 1 or name.endswith(exempt) else with_decay).append(param)
    return [dict(params=without, weight_decay=0.0), dict(params=with_decay, weight_decay=decay)]


def three_steps(model, image, ids, autocast=False):
    """Losses, the gradients of the first step, and the weights after the last."""
    out, loss_of = {}, ClipLoss()
    # The bias of the keys has a gradient of exactly zero (softmax ignores a shift); AdamW divides the rounding left of
    # it by eps, so a tiny eps would compare noise with noise.
    optimizer = torch.optim.AdamW(groups(model, 0.2), lr=1e-3, betas=(0.9, 0.98), eps=1e-4)
    for step in range(3):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            image_features, text_features, scale = model(image, ids)[:3]
            loss = loss_of(image_features, text_features, scale)
        loss.backward()
        out[f"loss.{step}"] = loss.reshape(1)
        if step == 0:
            out |= {f"grad.{k}": p.grad for k, p in model.named_parameters() if p.grad is not None}
            out = {key: value.detach().clone() for key, value in out.items()}
        optimizer.step()
    return out | {f"after.{key}": value for key, value in model.state_dict().items()}


def deviations(got, reference):
    """As tests/parity/measure.rs: relative to the largest value of each tensor, of the loss absolute."""

    def worst(prefix):
        pairs = [(got[name].double(), value.double()) for name, value in reference.items() if name.startswith(prefix)]
        scale = lambda value: 1.0 if prefix == "loss" else value.abs().max()
        return max(((a - b).abs().max() / scale(b)).item() for a, b in pairs if b.abs().max() > 0)

    kinds = dict(image_features="image_features", text_features="text_features", loss="loss", gradient="grad.")
    return {name: worst(prefix) for name, prefix in (kinds | {"weights": "after."}).items()}


def contiguous(tensors):
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().clone().contiguous()
        for name, tensor in tensors.items()
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for seed, (name, variant) in enumerate(VARIANTS.items()):
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        model, config = build(variant)
        randomize(model, generator)
        height, width = model.visual.image_size
        image = torch.randn(BATCH, 3, height, width, generator=generator)
        ids = texts(generator)
        metadata = {"model_cfg": json.dumps(config)}
        # Cloned: the optimizer below changes the parameters in place.
        out = {f"model.{key}": value.clone() for key, value in model.state_dict().items()}
        out |= {"image": image, "ids": ids.int()}
        with torch.no_grad():
            out["image_features"] = model.encode_image(image)
            out["text_features"] = model.encode_text(ids)
        if name in ("base", "quick_gelu", "clipa"):
            blocks = []
            hooks = [block.register_forward_hook(lambda _, __, y: blocks.append(y)) for block in model.visual.transformer.resblocks]
            with torch.no_grad():
                model.encode_image(image)
            [hook.remove() for hook in hooks]
            out |= {f"vision_block.{i}": block for i, block in enumerate(blocks)}

            # In double precision, so that the reference adds no rounding of its own.
            rounded = copy.deepcopy(model)
            out |= three_steps(model.double(), image.double(), ids)
            # How far PyTorch's own mixed precision is from that.
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                mixed = {"image_features": rounded.encode_image(image), "text_features": rounded.encode_text(ids)}
            metadata["amp_bf16"] = json.dumps(deviations(mixed | three_steps(rounded, image, ids, autocast=True), out))
        path = OUT / f"{name}.safetensors"
        save_file(contiguous(out), path, metadata=metadata)
        print(path, path.stat().st_size, metadata.get("amp_bf16", ""))


if __name__ == "__main__":
    main()
