"""A tiny CLIP with open_clip's ModifiedResNet, in evaluation mode: features and gradients.

Run from the root of the repository: python tests/reference/resnet.py
Writes tests/fixtures/towers/resnet.safetensors. Weights and running statistics are not in it: whoever reads it makes the
same f32 values from the formula of vit_b_32.py. The image is there in pixels of 8 x 8, `coarse_image`. Of each gradient it holds `sampled` entries and the largest
magnitude. The metadata has the `model_cfg`, and names and shapes of the state dict as open_clip writes it.
"""

import json
import math
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch.nn import functional as F

from towers import BATCH, TEXT, texts
from vit_b_32 import sampled, scale_and_offset, values

OUT = Path("tests/fixtures/towers/resnet.safetensors")
SIZE, BLOCK = 64, 8
CONFIG = dict(
    embed_dim=8,
    # One bottleneck without a shortcut of its own, in the second stage.
    vision_cfg=dict(image_size=SIZE, layers=[1, 2, 1, 1], width=6, head_width=48),
    text_cfg=TEXT | dict(layers=1),
)


def closed_form(name, shape):
    if name == "logit_scale":
        return torch.tensor(math.log(1 / 0.07))
    if name.endswith("running_mean"):
        return values(name, shape, 0.1)
    if name.endswith("running_var"):
        return values(name, shape, 0.18, 0.6)
    return values(name, shape, *scale_and_offset(name, shape))


def gradients(model, image, ids):
    model.zero_grad()
    features = model.encode_image(image), model.encode_text(ids)
    loss = ClipLoss()(*(F.normalize(x, dim=-1) for x in features), model.logit_scale.exp())
    loss.backward()
    out = dict(image_features=features[0], text_features=features[1], loss=loss.reshape(1))
    out |= {f"grad.{name}": param.grad for name, param in model.named_parameters()}
    return {name: value.detach().clone() for name, value in out.items()}


def main():
    torch.set_num_threads(1)
    model = CLIP(**CONFIG).eval()
    state = model.state_dict()
    own = {name: closed_form(name, value.shape) for name, value in state.items() if value.is_floating_point()}
    model.load_state_dict(state | own)
    # Of the seeds some bring a ReLU's input so near zero that rounding decides whether it passes a gradient, and PyTorch in
    # f32 is up to 3e-4 away from itself in f64. With this one it is at what is printed below.
    generator = torch.Generator().manual_seed(1)
    ids = texts(generator)
    # Fine noise would be averaged away, and all images alike: differences of what is alike are rounding.
    coarse = torch.randn(BATCH, 3, SIZE // BLOCK, SIZE // BLOCK, generator=generator)
    image = coarse.repeat_interleave(BLOCK, 2).repeat_interleave(BLOCK, 3)
    rounded = gradients(model, image, ids)
    # In double precision, so that the reference adds no rounding of its own.
    exact = gradients(model.double(), image.double(), ids)
    out = dict(ids=ids.int(), coarse_image=coarse)
    for name, value in exact.items():
        if name.startswith("grad."):
            out[name] = sampled(value)
            out[name.replace("grad", "grad_max", 1)] = value.abs().max().reshape(1)
        else:
            out[name] = value
    # A softmax does not see the bias of the keys: its gradient is zero, and rounding is measured by that of the weight.
    out["grad_max.visual.attnpool.k_proj.bias"] = out["grad_max.visual.attnpool.k_proj.weight"]
    out = {name: (x.float() if x.is_floating_point() else x).detach().clone().contiguous() for name, x in out.items()}
    shapes = {name: list(value.shape) for name, value in state.items()}
    compact = dict(separators=(",", ":"))
    metadata = {"model_cfg": json.dumps(CONFIG, **compact), "state_dict": json.dumps(shapes, **compact)}
    save_file(out, OUT, metadata=metadata)
    print(OUT, OUT.stat().st_size, "bytes; loss", exact["loss"].item())
    scale = lambda name: out.get(name.replace("grad.", "grad_max."), exact[name]).abs().max()
    off = sorted((((rounded[name] - exact[name]).abs().max() / scale(name)).item(), name) for name in exact)
    print("PyTorch in f32, relative to the largest entry:", off[-3:])


if __name__ == "__main__":
    main()
