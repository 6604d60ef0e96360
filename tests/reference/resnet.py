"""A tiny CLIP with open_clip's ModifiedResNet, in evaluation mode: features and gradients.

Run from the root of the repository: python tests/reference/resnet.py
Writes tests/fixtures/towers/resnet.safetensors. Weights, running statistics and the image are not in it: whoever reads it
makes the same f32 values from the formula of vit_b_32.py. Of each gradient it holds `sampled` entries and the largest
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
SIZE = 64
CONFIG = dict(
    embed_dim=8,
    # One bottleneck without a shortcut of its own, in the second stage.
    vision_cfg=dict(image_size=SIZE, layers=[1, 2, 1, 1], width=2, head_width=16),
    text_cfg=TEXT | dict(layers=1),
)


def closed_form(name, shape):
    if name == "logit_scale":
        return torch.tensor(math.log(1 / 0.07))
    if name.endswith("running_mean"):
        return values(name, shape, 0.1)
    if name.endswith("running_var"):
        return values(name, shape, 0.1, 0.4)
    return values(name, shape, *scale_and_offset(name, shape))


def main():
    torch.set_num_threads(1)
    model = CLIP(**CONFIG).eval()
    state = model.state_dict()
    own = {name: closed_form(name, value.shape) for name, value in state.items() if value.is_floating_point()}
    model.load_state_dict(state | own)
    image, ids = values("image", (BATCH, 3, SIZE, SIZE), 1.5), texts(torch.Generator().manual_seed(0))
    with torch.no_grad():
        rounded = model.encode_image(image)
    # In double precision, so that the reference adds no rounding of its own.
    model.double()
    features = model.encode_image(image.double()), model.encode_text(ids)
    loss = ClipLoss()(*(F.normalize(x, dim=-1) for x in features), model.logit_scale.exp())
    loss.backward()
    out = dict(ids=ids.int(), image_features=features[0], text_features=features[1], loss=loss.reshape(1))
    for name, param in model.named_parameters():
        out[f"grad.{name}"] = sampled(param.grad)
        out[f"grad_max.{name}"] = param.grad.abs().max().reshape(1)
    # A softmax does not see the bias of the keys: its gradient is zero, and rounding is measured by that of the weight.
    out["grad_max.visual.attnpool.k_proj.bias"] = out["grad_max.visual.attnpool.k_proj.weight"]
    out = {name: (x.float() if x.is_floating_point() else x).detach().clone().contiguous() for name, x in out.items()}
    shapes = {name: list(value.shape) for name, value in state.items()}
    compact = dict(separators=(",", ":"))
    metadata = {"model_cfg": json.dumps(CONFIG, **compact), "state_dict": json.dumps(shapes, **compact)}
    save_file(out, OUT, metadata=metadata)
    print(OUT, OUT.stat().st_size, "bytes; loss", loss.item())
    off = (rounded - features[0]).abs().max() / features[0].abs().max()
    print(f"PyTorch in f32: features {off.item():.1e} of the largest; largest {features[0].abs().max().item():.2f}")
    smallest = min((x.item(), name) for name, x in out.items() if name.startswith("grad_max"))
    print("smallest of the largest gradients:", smallest)


if __name__ == "__main__":
    main()
