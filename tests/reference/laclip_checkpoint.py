"""Full-size look-alikes of LaCLIP's released checkpoints: features of `embed` against those of PyTorch.

From the root of the repository, with the commands built before (cargo build --release --example embed --example convert):

    python tests/reference/laclip_checkpoint.py --embed target/release/examples/embed --photos PHOTOS --work FOLDER

Writes one checkpoint after the other into the work folder, with random weights in the layout of the release: the
models of CC3M, CC12M and RedCaps with the optimizer, scaler and arguments of the training script beside the weights, and
those of LAION-400M as open_clip's training leaves them. Compares features from the same pixels, from texts and from
the photos themselves, then of the converted directory; and checks what must be refused. Files are removed as it goes on.
"""

import argparse
import math
import shutil
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import open_clip
import torch
from big_models import TEXTS, compare, embed, in_batches, photos, randomize
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torchvision import transforms

# name: vision width, blocks, heads, tensors, scalars
LACLIP = {
    "CLIP_VITS16": (384, 12, 12, 349, 85_291_905),
    "CLIP_VITB16": (768, 12, 12, 349, 149_623_041),
    "CLIP_VITL16": (1024, 24, 16, 541, 367_260_161),
}
LAION = ["ViT-B-32", "ViT-B-16", "ViT-L-14-quickgelu"]


class Attention(nn.Module):
    """Queries and keys of each head are normed before they are scaled."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_norm = nn.LayerNorm(width // heads, eps=1e-6)
        self.k_norm = nn.LayerNorm(width // heads, eps=1e-6)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x):
        batch, seq, width = x.shape
        q, k, v = self.qkv(x).view(batch, seq, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.proj(x.transpose(1, 2).reshape(batch, seq, width))


class VisionBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(OrderedDict(
            fc1=nn.Linear(width, 4 * width), act=nn.GELU(), fc2=nn.Linear(4 * width, width)
        ))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Patches(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.proj = nn.Conv2d(3, width, 16, 16)

    def forward(self, pixels):
        return self.proj(pixels).flatten(2).transpose(1, 2)


class Vision(nn.Module):
    def __init__(self, width, layers, heads):
        super().__init__()
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 197, width))
        self.patch_embed = Patches(width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.Sequential(*(VisionBlock(width, heads) for _ in range(layers)))

    def forward(self, pixels):
        x = torch.cat([self.cls_token.expand(len(pixels), -1, -1), self.patch_embed(pixels)], 1)
        return self.norm(self.blocks(x + self.pos_embed))[:, 0]


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class TextBlock(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict(
            c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width)
        ))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x, mask):
        normed = self.ln_1(x)
        x = x + self.attn(normed, normed, normed, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Text(nn.Module):
    def __init__(self, width, heads, layers):
        super().__init__()
        self.resblocks = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))


class Laclip(nn.Module):
    def __init__(self, width, layers, heads):
        super().__init__()
        self.positional_embedding = nn.Parameter(0.01 * torch.randn(77, 512))
        self.image_projection = nn.Parameter(width**-0.5 * torch.randn(width, 512))
        self.text_projection = nn.Parameter(512**-0.5 * torch.randn(512, 512))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.visual = Vision(width, layers, heads)
        self.transformer = Text(512, 8, 12)
        self.token_embedding = nn.Embedding(49408, 512)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.ln_final = nn.LayerNorm(512)

    def encode_image(self, pixels):
        return self.visual(pixels) @ self.image_projection

    def encode_text(self, ids):
        mask = torch.full((77, 77), -math.inf).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer.resblocks:
            x = block(x, mask)
        return self.ln_final(x)[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def training_script_state(model):
    """What the release's training script saves, by what is known of it."""
    weights = {f"module.{name}": tensor.detach() for name, tensor in model.state_dict().items()}
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    moments = {
        index: {"step": torch.tensor(3.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        for index, p in enumerate([*matrices, *vectors])
    }
    lr = np.linspace(1e-6, 1e-3, 4)[2]  # one entry of the schedule: a numpy.float64
    assert isinstance(lr, np.float64)
    common = dict(lr=lr, betas=(0.9, 0.98), eps=1e-8, amsgrad=False)
    groups = [
        {"params": list(range(len(matrices))), "weight_decay": 0.5, **common},
        {"params": list(range(len(matrices), len(moments))), "weight_decay": 0, **common},
    ]
    scaler = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000, "_growth_tracker": 7}
    arguments = argparse.Namespace(
        train_data="cc12m.csv", augmented_caption_filelist=["a.txt", "b.txt"], aug_text=True, betas=[0.9, 0.98], gpu=0
    )
    return {
        "epoch": 35,
        "state_dict": OrderedDict(weights),
        "optimizer": {"state": moments, "param_groups": groups},
        "scaler": scaler,
        "best_acc1": 48.4,
        "args": arguments,
    }


def laclip_transform():
    return transforms.Compose([
        transforms.Resize(224),  # bilinear
        transforms.CenterCrop(224),
        lambda image: image.convert("RGB"),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])


class Checks:
    def __init__(self, arguments):
        self.arguments, self.results = arguments, []
        self.paths = photos(arguments.photos, arguments.limit)
        self.file = arguments.work / "checkpoint.pt"
        self.inputs = {name: arguments.work / name for name in ("pixels.safetensors", "texts.txt", "photos.txt")}
        self.inputs["texts.txt"].write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
        self.inputs["photos.txt"].write_text("".join(f"{path.resolve()}\n" for path in self.paths))

    def embed(self, model, *options):
        out = self.arguments.work / "out.safetensors"
        same = embed(
            self.arguments.embed, model, out, "--pixels", self.inputs["pixels.safetensors"],
            "--texts", self.inputs["texts.txt"], *options,
        )
        files = embed(self.arguments.embed, model, out, "--images", self.inputs["photos.txt"], *options)
        return same["image_features"], same["text_features"], files["image_features"]

    def model(self, label, model, transform, *options):
        """Features from the file as it lies there, then those of the directory that `convert` makes of it."""
        pixels = torch.stack([transform(Image.open(path)) for path in self.paths])
        save_file({"pixels": pixels}, self.inputs["pixels.safetensors"])
        image = in_batches(model.encode_image, pixels)
        text = in_batches(model.encode_text, open_clip.get_tokenizer("ViT-B-32")(TEXTS))
        ours = self.embed(self.file, *options)
        for kind, got, expected in zip(("pixels", "texts", "files"), ours, (image, text, image)):
            self.results.append(compare(label, kind, got, expected))
        converted = self.arguments.work / "converted"
        shutil.rmtree(converted, ignore_errors=True)
        command = [self.convert(), "--from", self.file, "--out", converted, *options]
        subprocess.run(command, check=True, capture_output=True)
        again = self.embed(converted)
        difference = max((a - b).abs().max().item() for a, b in zip(ours, again))
        self.say(difference == 0, f"{label}: features of the converted directory differ by {difference}")
        return converted, image

    def convert(self):
        return self.arguments.embed.with_name(self.arguments.embed.name.replace("embed", "convert"))

    def refused(self, label, words, *options):
        command = [
            self.arguments.embed, "--model", self.file, *options, "--texts", self.inputs["texts.txt"],
            "--out", self.arguments.work / "refused.safetensors",
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        good = done.returncode != 0 and all(word in done.stderr for word in words)
        self.say(good, f"{label} is refused: {' '.join(done.stderr.split('Stack backtrace')[0].split())[:400]}")

    def say(self, good, what):
        self.results.append(good)
        print(f"{'ok' if good else 'FAILS'}: {what}", flush=True)

    def laclip(self, name):
        width, layers, heads, tensors, scalars = LACLIP[name]
        torch.manual_seed(0)
        model = Laclip(width, layers, heads).eval()
        randomize(model, 1)
        state = model.state_dict()
        seen = len(state), sum(tensor.numel() for tensor in state.values())
        self.say(seen == (tensors, scalars), f"{name}: {seen[0]} tensors, {seen[1]} scalars")
        torch.save(training_script_state(model), self.file)
        converted, _ = self.model(name, model, laclip_transform())
        try:
            open_clip.create_model(f"local-dir:{converted}")
            self.say(False, f"{name}: open_clip loads the converted directory")
        except Exception as error:
            self.say(True, f"{name}: open_clip does not load the converted directory: {error}")
        if name == "CLIP_VITB16":
            self.refused("the same with a plain preset", ["patch_bias", "CLIP_VITB16"], "--config", "ViT-B-16")
            slip = {key: tensor for key, tensor in state.items() if "q_norm" not in key and "k_norm" not in key}
            torch.save({"state_dict": slip}, self.file)
            self.refused("SLIP's file without --config", ["SLIP", "--config", "qk_norm"])
            self.refused("SLIP's file as LaCLIP's", ["missing (48)", "ln_q"], "--config", name)
        if name == "CLIP_VITS16":
            other = Laclip(width, layers, heads // 2)
            torch.save({"state_dict": other.state_dict()}, self.file)
            self.refused("S/16 with 6 heads without --config", ["other shapes", "`config`"])
            self.refused("S/16 with 6 heads as the release's", ["another shape (48)", "ln_q"], "--config", name)

    def laion(self, name):
        torch.manual_seed(0)
        model, _, transform = open_clip.create_model_and_transforms(name)
        randomize(model.eval(), 0)
        optimizer = {"state": {}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
        torch.save({"epoch": 32, "name": "run", "state_dict": model.state_dict(), "optimizer": optimizer}, self.file)
        plain = name.removesuffix("-quickgelu")
        self.refused(f"{name} without --config", ["--config", f"{plain} (GELU)", f"{plain}-quickgelu (QuickGELU)"])
        converted, image = self.model(name, model, transform, "--config", name)
        if name == "ViT-L-14-quickgelu":  # the wrong activation loads, and differs
            out = self.arguments.work / "out.safetensors"
            given = "--pixels", self.inputs["pixels.safetensors"], "--config", plain
            wrong = embed(self.arguments.embed, self.file, out, *given)["image_features"]
            cosine = torch.cosine_similarity(wrong, image, dim=-1).min().item()
            self.say(cosine < 0.9999, f"with --config {plain} the smallest cosine is {cosine:.6f}")
        python = open_clip.create_model(f"local-dir:{converted}").eval()
        pixels = torch.stack([transform(Image.open(path)) for path in self.paths[:4]])
        difference = (in_batches(python.encode_image, pixels) - image[:4]).abs().max().item()
        self.say(difference < 1e-5, f"{name}: open_clip's features from the converted directory differ by {difference:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embed", type=Path, required=True, help="the built command; `convert` is beside it")
    parser.add_argument("--photos", type=Path, required=True, help="folder of images")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints, emptied at the end")
    parser.add_argument("--models", nargs="+", default=[*LACLIP, *LAION])
    parser.add_argument("--limit", type=int, default=24, help="number of photos")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    arguments = parser.parse_args()
    arguments.embed = arguments.embed.resolve()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True)
    try:
        checks = Checks(arguments)
        print(f"{len(checks.paths)} photos, {len(TEXTS)} texts, open_clip {open_clip.__version__}, torch {torch.__version__}")
        print("model | features of | rows | smallest cosine | largest difference | least alike rows\n")
        for name in arguments.models:
            (checks.laclip if name in LACLIP else checks.laion)(name)
    finally:
        shutil.rmtree(arguments.work)
    sys.exit(not all(checks.results))


if __name__ == "__main__":
    main()
