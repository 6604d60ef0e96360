"""Released architectures with random weights: features of `embed` against those of PyTorch.

From the root of the repository, with the command built before (cargo build --release --example embed):

    python tests/reference/big_models.py --embed target/release/examples/embed --photos PHOTOS --work TEMPORARY_FOLDER

For each model of open_clip, and for one Hugging Face CLIPModel: writes a model directory into the work folder,
computes the features of all photos and 64 texts in Python, runs `embed` once with Python's preprocessed pixels and
once with the photos themselves, and prints per comparison the number of rows, the smallest cosine and the largest
absolute difference of the normalized features, then the time of both.
"""

import argparse
import gc
import json
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from unittest.mock import patch

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast, PreTrainedTokenizerFast

HUGGING_FACE = "hf:ViT-B-32"
MODELS = ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-L-14", HUGGING_FACE]
MODELS += ["ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "ViT-SO400M-14-SigLIP-384", "EVA02-B-16", "EVA02-L-14-336"]
MODELS += ["RN50"]
TOKENIZER = Path("tests/fixtures/tokenizer_siglip")
PATTERNS = ["a photo of {}.", "{} beside a river, seen from far away", "a blurry close-up of {}!", "There are 3 of {}?"]
THINGS = [
    "a tabby cat", "two dogs", "the Eiffel Tower", "a bowl of soup", "an old steam engine", "a goldfish", "café tables",
    "a child's red bicycle", "mountains at dawn", "a violin", "street lamps", "a flock of geese", "a wooden boat",
    "a spider's web", "a crowd of people", "an empty room",
]
TEXTS = [pattern.format(thing) for pattern, thing in product(PATTERNS, THINGS)]
EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".jpe"}


def photos(folder, limit):
    """Sorted as `embed` sorts them: by the parts of the path."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS]
    return sorted(found, key=lambda path: path.parts)[:limit]


def randomize(model, seed):
    """Fresh models leave biases and gains at 0 and 1, where an error in them would not show."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1 and len(parameter) > 1:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))


def settle(model, pixels):
    """Batch norms of a new ResNet would show nothing: gains of 0 make a bottleneck its shortcut, and the statistics are 0 and 1.
    Branches stay below their shortcuts, or the tower would make much of the noise between two JPEG decoders."""
    generator = torch.Generator().manual_seed(2)
    norms = [(name, module) for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for name, norm in norms:
            norm.momentum = None  # plain averages
            gain = 0.2 if name.endswith("bn3") else 0.5
            norm.weight.copy_(gain * (1 + 0.4 * torch.randn(norm.weight.shape, generator=generator)))
        if norms:
            model.train().encode_image(pixels)
    model.eval()


def open_clip_model(name, directory, paths):
    """Writes a model directory; gives both encoders, the transform of images and the tokenizer."""
    siglip = "SigLIP" in name
    extra = dict(image_mean=0.5, image_std=0.5, image_resize_mode="squash") if siglip else {}
    model, _, transform = open_clip.create_model_and_transforms(name, **extra)
    randomize(model.eval(), 0)
    settle(model, torch.stack([transform(Image.open(path)) for path in paths[:16]]))
    config = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": open_clip.get_model_preprocess_cfg(model)}
    (directory / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        directory / "open_clip_model.safetensors",
        metadata={"format": "pt"},
    )
    if not siglip:
        return model.encode_image, model.encode_text, transform, open_clip.get_tokenizer(name)
    # The released tokenizer is not at hand; the weights are random, so a tiny one with SigLIP's special tokens will do.
    for file in TOKENIZER.iterdir():
        shutil.copy(file, directory)
    tokens = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER / "tokenizer.json"), pad_token="</s>", eos_token="</s>")
    with patch("transformers.AutoTokenizer.from_pretrained", return_value=tokens):
        tokenize = HFTokenizer("local", context_length=model.context_length, clean="canonicalize")
    return model.encode_image, model.encode_text, transform, tokenize


def cropped_down(transform):
    """transformers begins a centre crop at `(side - crop) // 2`, torchvision rounds halves to even."""

    def crop(image, size=224):
        left, top = (image.width - size) // 2, (image.height - size) // 2
        return image.crop((left, top, left + size, top + size))

    steps = [crop if type(step).__name__ == "CenterCrop" else step for step in transform.transforms]
    return type(transform)(steps)


def hugging_face_model(directory, embed):
    """The shape of openai/clip-vit-base-patch32, with the tokenizer's files that `convert` writes beside any model."""
    config = CLIPConfig(text_config=dict(bos_token_id=49406, eos_token_id=49407, pad_token_id=49407))
    model = CLIPModel(config).eval()
    randomize(model, 1)
    model.save_pretrained(directory)
    CLIPImageProcessor().save_pretrained(directory)
    convert = embed.with_name(embed.name.replace("embed", "convert"))
    written = directory.with_name(directory.name + "-tokenizer")
    shutil.rmtree(written, ignore_errors=True)
    subprocess.run([convert, "--from", "tiny", "--out", written], check=True, capture_output=True)
    for name in "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt":
        shutil.copy(written / name, directory)
    shutil.rmtree(written)
    words = CLIPTokenizerFast.from_pretrained(directory)

    def vector(features):
        return getattr(features, "pooler_output", features)

    return (
        lambda pixels: vector(model.get_image_features(pixel_values=pixels)),
        lambda ids: vector(model.get_text_features(input_ids=ids)),
        cropped_down(open_clip.image_transform(224, is_train=False)),
        lambda texts: words(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids,
    )


def in_batches(encode, rows, size=32):
    with torch.inference_mode():
        return torch.cat([encode(batch) for batch in rows.split(size)])


def timed(work):
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def compare(label, kind, got, expected):
    got, expected = normalize(got.double(), dim=-1), normalize(expected.double(), dim=-1)
    assert got.shape == expected.shape, f"{label} {kind}: {tuple(got.shape)} against {tuple(expected.shape)}"
    cosine = (got * expected).sum(-1).min().item()
    difference = (got - expected).abs().max().item()
    spread = (expected @ expected.T).min().item()  # near 1, the comparison would say little
    limit = dict(cosine=0.9995, difference=float("inf")) if kind == "files" else dict(cosine=0.99999, difference=2e-5)
    good = cosine >= limit["cosine"] and difference <= limit["difference"]
    print(f"| {label} | {kind} | {len(got)} | {cosine:.8f} | {difference:.2e} | {spread:.3f} | {'ok' if good else 'FAILS'} |")
    return good


def embed(command, directory, out, *arguments):
    done = subprocess.run([command, "--model", directory, "--out", out, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr}")
    return load_file(out)


def check(label, arguments, paths):
    directory = arguments.work / label.replace(":", "-")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    torch.manual_seed(0)
    if label == HUGGING_FACE:
        reference = hugging_face_model(directory, arguments.embed)
    else:
        reference = open_clip_model(label, directory, paths)
    encode_image, encode_text, transform, tokenize = reference
    pixels = torch.stack([transform(Image.open(path)) for path in paths])
    in_batches(encode_image, pixels[:8])  # warm up
    image, image_seconds = timed(lambda: in_batches(encode_image, pixels))
    text = in_batches(encode_text, tokenize(TEXTS))
    # `embed` needs the room of the largest ones.
    del reference, encode_image, encode_text, tokenize
    gc.collect()

    inputs = {name: arguments.work / name for name in ("pixels.safetensors", "texts.txt", "photos.txt", "first.txt")}
    save_file({"pixels": pixels}, inputs["pixels.safetensors"])
    inputs["texts.txt"].write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    inputs["photos.txt"].write_text("".join(f"{path.resolve()}\n" for path in paths))
    inputs["first.txt"].write_text(f"{paths[0].resolve()}\n")

    def run(*what):
        return embed(arguments.embed, directory, arguments.work / "out.safetensors", *what)

    ours = run("--pixels", inputs["pixels.safetensors"], "--texts", inputs["texts.txt"])
    # One photo for the time of loading, then all; the difference is decoding, preprocessing and the tower.
    _, loading = timed(lambda: run("--images", inputs["first.txt"]))
    from_files, seconds = timed(lambda: run("--images", inputs["photos.txt"]))
    good = [
        compare(label, "pixels", ours["image_features"], image),
        compare(label, "texts", ours["text_features"], text),
        compare(label, "files", from_files["image_features"], image),
    ]
    rates = (
        f"{label}: PyTorch encode_image {len(paths) / image_seconds:.1f} images/s with {torch.get_num_threads()} threads; "
        f"embed from the files {(len(paths) - 1) / max(seconds - loading, 1e-9):.1f} images/s after {loading:.1f} s of loading"
    )
    shutil.rmtree(directory)
    return all(good), rates


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--embed", type=Path, required=True, help="the built command; `convert` is beside it")
    parser.add_argument("--photos", type=Path, required=True, help="folder of images")
    parser.add_argument("--work", type=Path, required=True, help="folder for weights, removed model by model")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--limit", type=int, help="only the first photos")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch")
    arguments = parser.parse_args()
    arguments.embed = arguments.embed.resolve()
    torch.set_num_threads(arguments.threads)
    arguments.work.mkdir(parents=True, exist_ok=True)
    paths = photos(arguments.photos, arguments.limit)
    print(f"{len(paths)} photos, {len(TEXTS)} texts, open_clip {open_clip.__version__}, torch {torch.__version__}\n")
    print("| model | features of | rows | min cosine | max abs diff | least alike rows | |")
    print("|---|---|---|---|---|---|---|")
    results = [check(label, arguments, paths) for label in arguments.models]
    print("\n" + "\n".join(rates for _, rates in results))
    sys.exit(not all(good for good, _ in results))


if __name__ == "__main__":
    main()
