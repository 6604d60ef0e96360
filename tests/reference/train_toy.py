"""Loss curve of a small two-tower model under PyTorch's AdamW, global-norm clipping and open_clip's ClipLoss.

Writes tests/fixtures/train/toy.safetensors (initial weights, batches) and tests/fixtures/train/toy.json (recipe
values, learning rates, losses, gradient norms, final weights' norms). The model is `train/src/toy.rs`; its
parameters carry the same names.

    python tests/reference/train_toy.py
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss
from open_clip_train.scheduler import cosine_lr
from safetensors.torch import save_file

STEPS, BATCH, INPUT, SEQ, WIDTH, EMBED, VOCAB = 20, 6, 6, 4, 8, 5, 11
LR, BETAS, EPS, DECAY, CLIP, WARMUP = 0.005, (0.9, 0.98), 1e-6, 0.2, 1.5, 5
FIXTURES = Path(__file__).parent.parent / "fixtures" / "train"


def initial_weights():
    shapes = {"visual.embed.weight": (INPUT, WIDTH), "visual.embed.bias": (WIDTH,), "visual.proj": (WIDTH, EMBED)}
    shapes |= {"text.token_embedding": (VOCAB, WIDTH), "text.positional_embedding": (SEQ, WIDTH)}
    shapes |= {"text.text_projection": (WIDTH, EMBED)}
    for tower in ("visual", "text"):
        for i in range(2):
            shapes[f"{tower}.transformer.resblocks.{i}.weight"] = (WIDTH, WIDTH)
            shapes[f"{tower}.transformer.resblocks.{i}.bias"] = (WIDTH,)
    weights = {name: torch.randn(shape) * 0.3 for name, shape in sorted(shapes.items())}
    weights["logit_scale"] = torch.tensor([math.log(1 / 0.07)])
    return weights


def tower(w, name, x):
    for i in range(2):
        block = f"{name}.transformer.resblocks.{i}"
        x = x + F.gelu(x @ w[f"{block}.weight"] + w[f"{block}.bias"])
    return x.mean(1)


def forward(w, images, ids):
    image = tower(w, "visual", images @ w["visual.embed.weight"] + w["visual.embed.bias"]) @ w["visual.proj"]
    text = tower(w, "text", w["text.token_embedding"][ids] + w["text.positional_embedding"]) @ w["text.text_projection"]
    return F.normalize(image, dim=-1), F.normalize(text, dim=-1)


def main():
    torch.manual_seed(0)
    w = initial_weights()
    images, ids = torch.randn(STEPS, BATCH, SEQ, INPUT), torch.randint(0, VOCAB, (STEPS, BATCH, SEQ))
    tensors = {name: value.clone() for name, value in w.items()}
    save_file(tensors | {"images": images, "ids": ids.int()}, FIXTURES / "toy.safetensors")

    for value in w.values():
        value.requires_grad_(True)
    plain = [n for n, v in w.items() if v.ndim <= 1 or n.endswith("positional_embedding")]
    groups = [
        {"params": [v for n, v in w.items() if n in plain], "weight_decay": 0.0},
        {"params": [v for n, v in w.items() if n not in plain], "weight_decay": DECAY},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=BETAS, eps=EPS)
    schedule = cosine_lr(optimizer, LR, WARMUP, STEPS)
    criterion, curve = ClipLoss(), []
    for step in range(STEPS):
        schedule(step)
        optimizer.zero_grad()
        image, text = forward(w, images[step], ids[step])
        loss = criterion(image, text, w["logit_scale"].exp())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(list(w.values()), CLIP)
        optimizer.step()
        with torch.no_grad():
            w["logit_scale"].clamp_(0, math.log(100))
        lr = optimizer.param_groups[0]["lr"]
        curve.append({"lr": lr, "loss": loss.item(), "grad_norm": norm.item()})
    recipe = {"lr": LR, "beta1": BETAS[0], "beta2": BETAS[1], "eps": EPS, "weight_decay": DECAY, "clip_norm": CLIP}
    norms = {name: value.detach().norm().item() for name, value in w.items()}
    result = {"optimizer": recipe, "warmup": WARMUP, "steps": STEPS, "curve": curve, "final_norms": norms}
    (FIXTURES / "toy.json").write_text(json.dumps(result, indent=1) + "\n")


main()
