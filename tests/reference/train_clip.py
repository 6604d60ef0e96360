"""Loss curve of a tiny open_clip model: open_clip's ClipLoss and schedule, PyTorch's AdamW.

Writes tests/fixtures/train/clip.safetensors: initial weights (`model.*`), pixels and ids of all batches, and per
step `loss` and `grad_norm`; metadata holds `model_cfg` and the recipe's values.

    python tests/reference/train_clip.py
"""

import json
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip_train.scheduler import cosine_lr
from safetensors.torch import save_file

STEPS, BATCH, SIZE, VOCAB, CONTEXT = 20, 6, 16, 40, 8
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
RECIPE = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.98, "eps": 1e-6, "weight_decay": 0.2, "clip_norm": 5.0}
WARMUP = 5
MODEL = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 16, "layers": 2, "head_width": 8},
    "text_cfg": {"context_length": CONTEXT, "vocab_size": VOCAB, "width": 16, "heads": 2, "layers": 2},
}
OUT = Path(__file__).parent.parent / "fixtures" / "train"


def texts():
    ids = torch.zeros(STEPS, BATCH, CONTEXT, dtype=torch.long)
    for step in range(STEPS):
        for row in range(BATCH):
            words = int(torch.randint(2, CONTEXT - 1, ()))
            ids[step, row, 0] = VOCAB - 2
            ids[step, row, 1:words] = torch.randint(1, VOCAB - 2, (words - 1,))
            ids[step, row, words] = VOCAB - 1
    return ids


def main():
    torch.manual_seed(0)
    model = CLIP(**MODEL).train()
    pixels = torch.randint(0, 256, (STEPS, BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    ids = texts()
    out = {f"model.{name}": value.clone().contiguous() for name, value in model.state_dict().items()}
    exempt = ("positional_embedding", "class_embedding")
    # Written down, for open_clip 3.3 has nothing to import: its rule is a lambda inside of open_clip_train.main, and goes by
    # names. This is that of its main branch (open_clip_train/optim.py, `make_wd_exclude` with CLIP's `no_weight_decay`).
    named = list(model.named_parameters())
    plain = [p for n, p in named if p.ndim <= 1 or n.endswith(exempt)]
    decayed = [p for n, p in named if not (p.ndim <= 1 or n.endswith(exempt))]
    optimizer = torch.optim.AdamW(
        [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": RECIPE["weight_decay"]}],
        lr=RECIPE["lr"], betas=(RECIPE["beta1"], RECIPE["beta2"]), eps=RECIPE["eps"],
    )
    schedule, criterion = cosine_lr(optimizer, RECIPE["lr"], WARMUP, STEPS), ClipLoss()
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    losses, norms = [], []
    for step in range(STEPS):
        schedule(step)
        optimizer.zero_grad()
        images = ((pixels[step] / 255 - mean) / std).permute(0, 3, 1, 2)
        loss = criterion(*model(images, ids[step])[:3])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip_norm"]))
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)
        losses.append(loss.detach())
    out |= {"pixels": pixels, "ids": ids.int(), "loss": torch.stack(losses), "grad_norm": torch.stack(norms)}
    metadata = {"model_cfg": json.dumps(MODEL), "optimizer": json.dumps(RECIPE), "warmup": str(WARMUP)}
    save_file(out, OUT / "clip.safetensors", metadata=metadata)
    print([round(x.item(), 4) for x in losses], [round(x.item(), 3) for x in norms])


main()
