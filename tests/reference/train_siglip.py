"""Loss curve of a tiny SigLIP: open_clip's towers (vision from timm), SigLipLoss and schedule, PyTorch's AdamW.

Writes tests/fixtures/train/siglip.safetensors as train_clip.py does, and the scale and bias of the end. They start as in
the paper (ln 10 and -10, Zhai et al., 2023), and the scale is not clamped. All else is drawn wider than towers start:
features of length near zero would make gradients of some thousands, and biases of zero would hide their rules.

    python tests/reference/train_siglip.py [--train target/release/examples/train [--scenes target/release/examples/scenes]
                                            --work FOLDER]

With --train (cargo build --release --example train --example scenes) the same is trained by a recipe as well, from a model
directory, PNG files and captions, plain and with gradient cache and block replay; prints the largest difference to PyTorch's
curve. With --scenes a larger SigLIP is, too, on a webdataset that the command writes and Python reads.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from open_clip.loss import SigLipLoss
from open_clip.tokenizer import HFTokenizer
from open_clip_train.scheduler import cosine_lr
from PIL import Image
from safetensors.torch import save_file

from siglip_directories import TOKENIZER, tokenizer
from tokenizer_hf import WORDS
from towers_timm import SIGLIP_TEXT, build, groups, randomize, tower

STEPS, BATCH, SIZE, CONTEXT, WIDTH = 20, 6, 8, 8, 8
RECIPE = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.2, "clip_norm": 5.0}
WARMUP = 5
TEXT = {"context_length": CONTEXT, "vocab_size": len(tokenizer()), "width": WIDTH, "heads": 2, "layers": 2} | SIGLIP_TEXT
MODEL = {
    "embed_dim": WIDTH,
    "init_logit_scale": math.log(10),
    "init_logit_bias": -10,
    "vision_cfg": tower("vit_base_patch16_siglip_224", "map", "none", SIZE, patch_size=4, embed_dim=WIDTH),
    "text_cfg": TEXT,
}
PREPROCESS = {"size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
OUT = Path(__file__).parent.parent / "fixtures" / "train"
# Images are as large as the model's and taken whole.
TOML = """
[run]
out = "runs/{accumulate}"
steps = {steps}
accumulate = {accumulate}
replay = {replay}
logit_scale_range = []
[model]
name = "model"
[method]
name = "clip"
loss = "sigmoid"
[data.loader]
batch_size = {batch}
[data.augment]
scale = [1.0, 1.0]
ratio = [1.0, 1.0]
[data.order]
kind = "sequential"
[[data.sources]]
{source}
[optimizer]
{optimizer}
[schedule]
warmup = {warmup}
[log]
every = 1
progress = false
tensorboard = false
"""


# Of the comparison on scenes: a side of 32 pixels and 24 pairs a step.
SCENES, SCENES_BATCH, SCENES_CONTEXT, SCENES_WIDTH = 32, 24, 48, 32
SCENES_MODEL = MODEL | {
    "embed_dim": SCENES_WIDTH,
    "vision_cfg": tower("vit_base_patch16_siglip_224", "map", "none", SCENES, embed_dim=SCENES_WIDTH),
    "text_cfg": TEXT | {"context_length": SCENES_CONTEXT, "width": SCENES_WIDTH},
}


def captions():
    """For each sample some words: fewer and more than the context holds."""
    return [
        " ".join(WORDS[i] for i in torch.randint(len(WORDS), (int(torch.randint(1, CONTEXT + 2, ())),)))
        for _ in range(STEPS * BATCH)
    ]


def train(model, pixels, ids):
    optimizer = torch.optim.AdamW(
        groups(model, RECIPE["weight_decay"]), lr=RECIPE["lr"], betas=(RECIPE["beta1"], RECIPE["beta2"]), eps=RECIPE["eps"]
    )
    schedule, criterion = cosine_lr(optimizer, RECIPE["lr"], WARMUP, STEPS), SigLipLoss()
    losses, norms = [], []
    for step in range(STEPS):
        schedule(step)
        optimizer.zero_grad()
        images = ((pixels[step].to(model.logit_scale.dtype) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)
        loss = criterion(*model(images, ids[step]))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), RECIPE["clip_norm"]))
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses), torch.stack(norms)


def write_pairs(folder, pixels, texts):
    """PNG files and their captions; gives the source of the recipe."""
    folder.mkdir(parents=True)
    with open(folder / "pairs.jsonl", "w") as lines:
        for index, (image, text) in enumerate(zip(pixels.flatten(0, 1), texts)):
            Image.fromarray(image.numpy()).save(folder / f"{index:03}.png")
            lines.write(json.dumps({"image": f"{index:03}.png", "caption": text}) + "\n")
    return 'kind = "jsonl"\npath = "pairs.jsonl"'


def read_scenes(command, folder):
    """Pixels and web captions of a webdataset of the built-in world, in the order of the shard."""
    line = ["--format", "webdataset", "--split", "train", "--image-size", SCENES, "--images", STEPS * SCENES_BATCH]
    subprocess.run([command, *map(str, line), "--out", folder], check=True, capture_output=True)
    pixels, texts = [], []
    with tarfile.open(folder / "00000.tar") as shard:
        for member in shard:
            if member.name.endswith(".png"):
                image = np.array(Image.open(shard.extractfile(member)).convert("RGB"))
                pixels.append(torch.from_numpy(image))
            elif member.name.endswith(".txt"):
                texts.append(shard.extractfile(member).read().decode())
    return torch.stack(pixels).unflatten(0, (STEPS, SCENES_BATCH)), texts


def tokenized(texts, context, batch):
    with patch("transformers.AutoTokenizer.from_pretrained", return_value=tokenizer()):
        return HFTokenizer("local", context_length=context, clean="canonicalize")(texts).view(STEPS, batch, context)


def start(config):
    """A model in single precision, and a copy of its weights."""
    model = build(config).train()
    randomize(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.logit_scale.fill_(MODEL["init_logit_scale"])
        model.logit_bias.fill_(MODEL["init_logit_bias"])
    return model, {name: value.clone().contiguous() for name, value in model.state_dict().items()}


def by_recipe(command, work, model, weights, source, curves, batch):
    """Whether runs of the command in a folder with the data follow the curves."""
    (work / "model").mkdir(parents=True)
    for file in TOKENIZER.iterdir():
        shutil.copy(file, work / "model")
    save_file(weights, work / "model/open_clip_model.safetensors", metadata={"format": "pt"})
    text = model["text_cfg"] | {"hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "canonicalize"}}
    preprocess = PREPROCESS | {"size": model["vision_cfg"]["image_size"]}
    config = {"model_cfg": model | {"custom_text": True, "text_cfg": text}, "preprocess_cfg": preprocess}
    (work / "model/open_clip_config.json").write_text(json.dumps(config))
    good = True
    for accumulate, replay in [(1, "false"), (3, "true")]:
        recipe = work / f"recipe_{accumulate}.toml"
        optimizer = "\n".join(f"{name} = {value}" for name, value in RECIPE.items())
        values = dict(accumulate=accumulate, replay=replay, steps=STEPS, batch=batch // accumulate, warmup=WARMUP)
        recipe.write_text(TOML.format(optimizer=optimizer, source=source, **values))
        done = subprocess.run([command, "--recipe", recipe], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{command} ended with {done.returncode}: {done.stderr}")
        lines = (work / f"runs/{accumulate}/metrics.jsonl").read_text().splitlines()
        steps = [entry["values"] for entry in map(json.loads, lines) if entry["kind"] == "train"]
        assert len(steps) == STEPS
        off = {
            name: max(abs(step[name] - want) / want for step, want in zip(steps, curve.tolist()))
            for name, curve in zip(["loss", "grad_norm"], curves)
        }
        shown = ", ".join(f"{name} {value:.1e}" for name, value in off.items())
        print(f"{work.name}, accumulate {accumulate}, replay {replay}: largest relative differences: {shown}")
        good &= max(off.values()) < 1e-4
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, help="the built command")
    parser.add_argument("--scenes", type=Path, help="the built command that writes scenes")
    parser.add_argument("--work", type=Path, help="folder for it, made anew")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, weights = start(MODEL)
    pixels = torch.randint(0, 256, (STEPS, BATCH, SIZE, SIZE, 3), dtype=torch.uint8)
    texts = captions()
    ids = tokenized(texts, CONTEXT, BATCH)
    out = {f"model.{name}": value for name, value in weights.items()}
    # In double precision, so that the reference adds no rounding of its own.
    losses, norms = train(model.double(), pixels, ids)
    out |= {"pixels": pixels, "ids": ids.int(), "loss": losses.float(), "grad_norm": norms.float()}
    out |= {f"final.{name}": getattr(model, name).detach().float().reshape(1) for name in ("logit_scale", "logit_bias")}
    metadata = {
        "model_cfg": json.dumps(MODEL | {"custom_text": True}),
        "preprocess_cfg": json.dumps(PREPROCESS),
        "optimizer": json.dumps(RECIPE),
        "warmup": str(WARMUP),
    }
    path = OUT / "siglip.safetensors"
    save_file(out, path, metadata=metadata)
    print(path, path.stat().st_size)
    print([round(x, 4) for x in losses.tolist()], [round(x, 3) for x in norms.tolist()])
    print(f"logit_scale {model.logit_scale.item():.6f}, logit_bias {model.logit_bias.item():.6f}")
    if arguments.train:
        command, work = arguments.train.resolve(), arguments.work
        shutil.rmtree(work, ignore_errors=True)
        source = write_pairs(work / "fixture", pixels, texts)
        good = by_recipe(command, work / "fixture", MODEL, weights, source, (losses, norms), BATCH)
        if arguments.scenes:
            (work / "scenes").mkdir()
            pixels, texts = read_scenes(arguments.scenes.resolve(), work / "scenes/shards")
            model, weights = start(SCENES_MODEL)
            curves = train(model.double(), pixels, tokenized(texts, SCENES_CONTEXT, SCENES_BATCH))
            print([round(x, 4) for x in curves[0].tolist()], [round(x, 3) for x in curves[1].tolist()])
            source = 'kind = "webdataset"\nshards = "shards/00000.tar"'
            good &= by_recipe(command, work / "scenes", SCENES_MODEL, weights, source, curves, SCENES_BATCH)
        sys.exit(not good)


if __name__ == "__main__":
    main()
