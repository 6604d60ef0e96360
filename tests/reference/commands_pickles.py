"""Tiny checkpoints in every format that is read, with the features that Python computes from them.

Run from the root of the repository: python tests/reference/commands_pickles.py
Writes tests/fixtures/commands/: checkpoints, two Hugging Face directories, files that must be refused, and
expected.safetensors with `pixels`, `ids` and, per model, its image and text features (not normalized).
"""

import argparse
import json
import os
import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CLIP
from open_clip.transformer import QuickGELU
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel

OUT = Path("tests/fixtures/commands")
VOCAB, CONTEXT, SIZE, PATCH, WIDTH, HEADS, LAYERS, DIM, BATCH = 50, 9, 16, 8, 8, 2, 1, 6, 3
START, END = VOCAB - 2, VOCAB - 1
WORDS = "a photo of the cat dog bird red blue green on under near small large".split()
TEXTS = ["a photo of a cat", "the small red bird near the large blue dog under a tree", "dog"]

VISION = dict(image_size=SIZE, patch_size=PATCH, width=WIDTH, layers=LAYERS, head_width=WIDTH // HEADS)
TEXT = dict(context_length=CONTEXT, vocab_size=VOCAB, width=WIDTH, heads=HEADS, layers=LAYERS)


def randomize(model, seed):
    """Every parameter away from its initial value, so that no bias or gain can be mixed up unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                continue
            noise = torch.randn(parameter.shape, generator=generator)
            gain = name.endswith("weight") and parameter.ndim == 1
            parameter.copy_(1 + 0.1 * noise if gain else 0.2 * noise)
    return model.eval()


def contiguous(tensors):
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def tokenizer():
    """One token per word."""
    vocab = {"<pad>": 0, "<unk>": 1} | {word: i for i, word in enumerate(WORDS, 2)}
    vocab |= {"<start>": START, "<end>": END}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", START), ("<end>", END)]
    )
    return tokenizer


def rows(tokenizer):
    tokenizer.enable_truncation(CONTEXT)
    encoded = [tokenizer.encode(text).ids for text in TEXTS]
    tokenizer.no_truncation()
    return torch.tensor([ids + [0] * (CONTEXT - len(ids)) for ids in encoded])


def open_clip_files(pixels, ids, expected):
    config = dict(embed_dim=DIM, vision_cfg=VISION, text_cfg=TEXT)
    model = randomize(CLIP(**config), 1)
    with torch.no_grad():
        expected["open_clip.image"], expected["open_clip.text"] = model.encode_image(pixels), model.encode_text(ids)
    (OUT / "open_clip.json").write_text(json.dumps(config, indent=2) + "\n")
    weights = contiguous(model.state_dict())
    torch.save(weights, OUT / "open_clip.pt")
    torch.save(weights, OUT / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({name: tensor.bfloat16() for name, tensor in weights.items()}, OUT / "bf16.pt")
    save_file({name: tensor.half() for name, tensor in weights.items()}, OUT / "f16.safetensors")
    # Views of one storage, one of them not contiguous.
    both = torch.stack([weights["text_projection"], weights["text_projection"].flip(0)]).transpose(1, 2).contiguous()
    torch.save(weights | {"text_projection": both[0].T}, OUT / "views.pt")

    # What a training script leaves: a wrapped model, an optimizer, arguments, numbers of numpy.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    model.zero_grad()
    model.encode_text(ids).sum().backward()
    optimizer.step()
    torch.save(
        {
            "epoch": np.int64(3),
            "args": argparse.Namespace(lr=np.float32(1e-3), names=["a", "b"], path=None),
            "best": np.float64(0.25),
            "history": np.arange(3.0),
            "optimizer": optimizer.state_dict(),
            "state_dict": {f"module.{name}": tensor for name, tensor in weights.items()},
        },
        OUT / "training.pt",
    )

    # Buffers that OpenAI's archives carry beside the weights.
    for name, value in dict(input_resolution=SIZE, context_length=CONTEXT, vocab_size=VOCAB).items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    torch.jit.trace(model, (pixels, ids), check_trace=False).save(OUT / "torchscript.pt")
    without_sources(OUT / "torchscript.pt")
    torch.save(model, OUT / "refused_module.pt")


def without_sources(path):
    """Leaves out what TorchScript says of the Python files that a model was traced from."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            if not name.endswith(".debug_pkl") and "/traced_inputs" not in name:
                archive.writestr(zipfile.ZipInfo(name), content)
    torch.jit.load(path)


def hugging_face_directories(pixels, ids, expected, tokenizer):
    tower = dict(num_hidden_layers=LAYERS, num_attention_heads=HEADS, hidden_size=WIDTH, intermediate_size=3 * WIDTH)
    config = CLIPConfig(
        vision_config=dict(image_size=SIZE, patch_size=PATCH, hidden_act="gelu", projection_dim=DIM, **tower),
        text_config=dict(
            vocab_size=VOCAB, max_position_embeddings=CONTEXT, bos_token_id=START, eos_token_id=END, pad_token_id=0,
            hidden_act="gelu", projection_dim=DIM, **tower,
        ),
        projection_dim=DIM,
    )
    model = randomize(CLIPModel(config), 2)
    with torch.no_grad():
        image, text = model.get_image_features(pixels), model.get_text_features(ids)
    expected["hugging_face.image"] = getattr(image, "pooler_output", image)
    expected["hugging_face.text"] = getattr(text, "pooler_output", text)
    for name, limit in ("hugging_face", "1GB"), ("hugging_face_sharded", "8KB"):
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder, max_shard_size=limit)
        tokenizer.save(str(folder / "tokenizer.json"))
        special = dict(bos_token="<start>", eos_token="<end>", pad_token="<pad>", unk_token="<unk>")
        (folder / "special_tokens_map.json").write_text(json.dumps(special) + "\n")
        (folder / "preprocessor_config.json").write_text(
            json.dumps(dict(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, resample=3)) + "\n"
        )


class Slip(torch.nn.Module):
    """timm's vision transformer beside OpenAI's text tower with QuickGELU, under the names of SLIP and LaCLIP."""

    def __init__(self, qk_norm):
        super().__init__()
        self.visual = VisionTransformer(
            img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=LAYERS, num_heads=HEADS, num_classes=0,
            qk_norm=qk_norm, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )
        text = CLIP(embed_dim=DIM, vision_cfg=VISION, text_cfg=TEXT, quick_gelu=True)
        assert isinstance(text.transformer.resblocks[0].mlp.gelu, QuickGELU)
        self.transformer, self.token_embedding, self.ln_final = text.transformer, text.token_embedding, text.ln_final
        self.positional_embedding, self.text_projection = text.positional_embedding, text.text_projection
        self.image_projection = torch.nn.Parameter(torch.empty(WIDTH, DIM))
        self.logit_scale = text.logit_scale
        self.mask = text.attn_mask

    def encode_image(self, pixels):
        return self.visual(pixels) @ self.image_projection

    def encode_text(self, ids):
        tokens = self.transformer(self.token_embedding(ids) + self.positional_embedding, attn_mask=self.mask)
        return self.ln_final(tokens)[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def slip_files(pixels, ids, expected):
    for seed, (name, qk_norm) in enumerate([("slip", False), ("laclip", True)], 3):
        model = randomize(Slip(qk_norm), seed)
        with torch.no_grad():
            expected[f"{name}.image"], expected[f"{name}.text"] = model.encode_image(pixels), model.encode_text(ids)
        weights = contiguous(model.state_dict())
        torch.save({"epoch": 25, "state_dict": {f"module.{k}": v for k, v in weights.items()}}, OUT / f"{name}.pt")
        vision = VISION | dict(no_ln_pre=True, norm_kwargs=dict(eps=1e-6), patch_bias=True, qk_norm=qk_norm)
        config = dict(embed_dim=DIM, vision_cfg=vision, text_cfg=TEXT | dict(act="quick_gelu"))
        (OUT / f"{name}.json").write_text(json.dumps(config, indent=2) + "\n")


class Command:
    """Runs a command where a reader executes pickles; the file it makes gives such a reader away."""

    def __reduce__(self):
        return os.system, ("touch a_pickle_was_executed",)


def refused_files():
    torch.save(Command(), OUT / "refused_command.pt")
    weight = torch.zeros(WIDTH, 3, PATCH, PATCH)
    torch.save({"visual.conv1.weight": weight, "visual.proj": Command()}, OUT / "refused_command_among_tensors.pt")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    words = tokenizer()
    pixels, ids = torch.randn(BATCH, 3, SIZE, SIZE), rows(words)
    expected = {"pixels": pixels, "ids": ids}
    open_clip_files(pixels, ids, expected)
    hugging_face_directories(pixels, ids, expected, words)
    slip_files(pixels, ids, expected)
    refused_files()
    save_file(contiguous(expected), OUT / "expected.safetensors")
    (OUT / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    for path in sorted(OUT.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:8} {path}")


if __name__ == "__main__":
    main()
