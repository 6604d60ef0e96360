"""A full-size ViT-B-32 whose weights come from a formula: features, gradients and three optimizer steps.

Run from the root of the repository: python tests/reference/vit_b_32.py
Writes tests/fixtures/towers/vit_b_32_closed_form.safetensors. Weights and inputs are not in it: whoever reads it makes
the same f32 values from `values` and `scale_and_offset` below. Of each gradient and weight it holds `sampled` entries
and the largest magnitude. The metadata holds how far plain f32 and bf16 autocast are from this float64 reference.
Takes about 8 GB of memory.
"""

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from torch.nn import functional as F
from towers import groups

OUT = Path("tests/fixtures/towers/vit_b_32_closed_form.safetensors")
BATCH, CONTEXT, SIZE, STEPS, SAMPLES = 8, 77, 224, 3, 64
START, END, WORDS = 49406, 49407, 49000


def hash32(name):
    """FNV-1a."""
    value = 0x811C9DC5
    for byte in name.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def bits(name, count):
    """`count` well mixed 32-bit integers; u32 arithmetic wraps."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(2654435761) + np.uint32(hash32(name))
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return x


def values(name, shape, scale, offset=0.0):
    """offset + scale * u with u in [-1, 1); 24 bits fit an f32, so that u is exact."""
    u = (bits(name, math.prod(shape)) >> np.uint32(8)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    return torch.from_numpy(np.float32(offset) + np.float32(scale) * u).reshape(shape)


def scale_and_offset(name, shape):
    if name.endswith("bias"):
        return 0.02, 0.0
    if name.endswith(("positional_embedding", "class_embedding", "token_embedding.weight")):
        return 0.02, 0.0
    if len(shape) == 1:  # the gain of a norm
        return 0.1, 1.0
    # The two projections are used as x @ matrix, all others as x @ matrix.T.
    fan_in = shape[0] if name in ("visual.proj", "text_projection") else math.prod(shape[1:])
    return math.sqrt(3 / fan_in), 0.0


def build():
    model = open_clip.create_model("ViT-B-32").eval()
    with torch.no_grad():
        for name, param in model.named_parameters():
            if name == "logit_scale":
                param.fill_(math.log(1 / 0.07))
            else:
                param.copy_(values(name, param.shape, *scale_and_offset(name, param.shape)))
    return model


def inputs():
    image = values("image", (BATCH, 3, SIZE, SIZE), 1.5)
    words = 1 + torch.from_numpy((bits("ids", BATCH * CONTEXT) % WORDS).astype(np.int64)).reshape(BATCH, CONTEXT)
    ids = torch.zeros(BATCH, CONTEXT, dtype=torch.long)
    for row in range(BATCH):
        end = 6 + 3 * row
        ids[row, 0], ids[row, 1:end], ids[row, end] = START, words[row, 1:end], END
    return image, ids


def sampled(tensor):
    flat = tensor.detach().reshape(-1)
    stride = (flat.numel() // SAMPLES) | 1  # odd, so that the columns of a matrix change
    return flat[::stride][:SAMPLES].double()


def run(dtype, autocast=False):
    """Three steps of AdamW on one batch; eps as in towers.py."""
    model, (image, ids), loss_of, out = build().to(dtype), inputs(), ClipLoss(), {}
    # One tensor at a time: less memory.
    optimizer = torch.optim.AdamW(groups(model, 0.2), lr=1e-4, betas=(0.9, 0.98), eps=1e-4, foreach=False)

    def keep(kind, tensors):
        for name, tensor in tensors:
            out[f"{kind}.{name}"] = sampled(tensor)
            out[f"{kind}_max.{name}"] = tensor.detach().abs().max().double().reshape(1)

    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            image_features, text_features = model.encode_image(image.to(dtype)), model.encode_text(ids)
            normal = [F.normalize(features, dim=-1) for features in (image_features, text_features)]
            loss = loss_of(*normal, model.logit_scale.exp())
        loss.backward()
        out[f"loss.{step}"] = loss.detach().double().reshape(1)
        if step == 0:
            out |= {"image_features": image_features.detach().double(), "text_features": text_features.detach().double()}
            keep("grad", ((name, param.grad) for name, param in model.named_parameters()))
        optimizer.step()
    keep("after", model.named_parameters())
    return out


def deviations(got, reference):
    """Features, gradients and weights: relative to the largest magnitude of the reference. The loss: absolute."""

    def worst(names, relative_to):
        pairs = ((got[name] - reference[name], relative_to(name)) for name in names)
        return max((difference.abs().max() / scale).item() for difference, scale in pairs)

    def kind(prefix):
        return worst(
            [name for name in reference if name.startswith(f"{prefix}.")],
            lambda name: reference[name.replace(f"{prefix}.", f"{prefix}_max.", 1)],
        )

    features = {name: worst([name], lambda n: reference[n].abs().max()) for name in ("image_features", "text_features")}
    return features | {
        "loss": worst([f"loss.{step}" for step in range(STEPS)], lambda _: 1.0),
        "gradient": kind("grad"),
        "weights": kind("after"),
    }


def main():
    reference = run(torch.float64)
    metadata = {"source": f"torch {torch.__version__}, open_clip {open_clip.__version__}"}
    print([reference[f"loss.{step}"].item() for step in range(STEPS)])
    for name, autocast in (("f32", False), ("amp_bf16", True)):
        metadata[name] = json.dumps(deviations(run(torch.float32, autocast), reference))
        print(name, metadata[name])
    save_file({name: tensor.float().contiguous() for name, tensor in reference.items()}, OUT, metadata=metadata)
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    main()
