"""One piece of work of the comparison in Python, timed whenever standard input asks for it.

    python bench/compare/peers.py SIDE WORK --data DIR [--model NAME] [--batch N] [--seconds S] [--precision f32|bf16]

SIDE is open_clip (with torchvision and CLIP_benchmark where they do the work) or transformers; compare.py starts it. Prints a line
of JSON when it is ready; for each line that it reads it works for `--seconds` and prints the seconds of each call; at the end of
input it prints the largest memory it had.
"""

import argparse
import importlib.metadata
import io
import json
import math
import os
import sys
import time
from pathlib import Path

import inputs

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
WARM_UP = 0.5  # seconds of calls before anything counts; one call at least
SHOWN = 8  # rows that are compared with the other sides'
PACKAGES = ["torch", "torchvision", "open_clip_torch", "transformers", "tokenizers", "clip-benchmark", "webdataset", "pillow", "numpy"]


def encoder(side, given):
    """The model's image or text encoder as a function without arguments."""
    import torch

    folder = given.data / given.model
    config = json.loads((folder / "open_clip.json").read_text())
    if side == "open_clip":
        from weights import open_clip_model

        model = open_clip_model(folder).eval()
        image, text = model.encode_image, model.encode_text
    else:
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(folder).eval()
        image = lambda pixels: pooled(model.get_image_features(pixel_values=pixels))
        text = lambda ids: pooled(model.get_text_features(input_ids=ids))
    if given.work == "encode_image":
        encode, given_to_it = image, torch.from_numpy(inputs.pixels(given.batch, config["vision_cfg"]["image_size"]))
    else:
        encode, given_to_it = text, torch.from_numpy(inputs.ids(given.batch, config["text_cfg"]["context_length"]))

    @torch.inference_mode()
    def call():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=given.precision == "bf16"):
            return encode(given_to_it).float().numpy()

    return call


def pooled(output):
    """transformers gives a tensor until version 4, and an object since."""
    return output if hasattr(output, "shape") else output.pooler_output


def encode(side, given):
    call = encoder(side, given)
    begun = time.perf_counter()
    rows = call()[:SHOWN]
    return begun, call, dict(items=given.batch, unit="images" if given.work == "encode_image" else "texts",
                             features=[[round(float(x), 6) for x in row] for row in rows])


def train(side, given):
    """A step as open_clip's training loop does it: forward, contrastive loss, backward, norm clipped to 1, AdamW."""
    import torch

    folder = given.data / given.model
    config = json.loads((folder / "open_clip.json").read_text())
    side_of_image, context = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
    samples = torch.from_numpy(inputs.samples(given.batch, side_of_image)).permute(0, 3, 1, 2).contiguous()
    ids = torch.from_numpy(inputs.ids(given.batch, context))
    mean, std = (255 * torch.tensor(x).reshape(3, 1, 1) for x in (MEAN, STD))
    if side == "open_clip":
        from open_clip.loss import ClipLoss

        from weights import open_clip_model

        model, loss_of = open_clip_model(folder).train(), ClipLoss()
        loss = lambda images: loss_of(*model(images, ids)[:3])
    else:
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(folder).train()
        loss = lambda images: model(input_ids=ids, pixel_values=images, return_loss=True).loss
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    groups = [dict(params=decayed, weight_decay=0.2), dict(params=rest, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=5e-4, betas=(0.9, 0.98), eps=1e-6)

    def call():
        value = loss((samples.float() - mean) / std)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        return value.item()

    begun = time.perf_counter()
    losses = [call() for _ in range(3)]
    return begun, call, dict(items=given.batch, unit="pairs", losses=losses)


def preprocess(side, given):
    """Files in memory to normalised tensors, one by one."""
    from PIL import Image

    files = [Path(name).read_bytes() for name in given.images.read_text().splitlines()]
    if side == "open_clip":
        from open_clip.transform import image_transform

        transform = image_transform(224, is_train=False, mean=MEAN, std=STD)
        tensor = lambda data: transform(Image.open(io.BytesIO(data)))
    else:
        from transformers import CLIPImageProcessor

        processor = CLIPImageProcessor()
        tensor = lambda data: processor(Image.open(io.BytesIO(data)), return_tensors="pt")["pixel_values"]

    def call():
        for data in files:
            tensor(data)

    begun = time.perf_counter()
    mean = sum(float(tensor(data).double().mean()) for data in files[:SHOWN]) / len(files[:SHOWN])
    call()
    return begun, call, dict(items=len(files), unit="photos", mean=mean)


def tokenize(side, given):
    texts = given.texts.read_text().splitlines()
    if side == "open_clip":
        from open_clip.tokenizer import SimpleTokenizer

        tokenizer = SimpleTokenizer()
        call = lambda: tokenizer(texts)
    else:
        from transformers import CLIPTokenizerFast

        tokenizer = CLIPTokenizerFast.from_pretrained(given.data / "tokenizer")
        call = lambda: tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")["input_ids"]
    begun = time.perf_counter()
    return begun, call, dict(items=len(texts), unit="captions", fingerprint=inputs.fingerprint(call().numpy()))


def recall(side, given):
    """The end of CLIP_benchmark's `zeroshot_retrieval.evaluate`: all scores, and recall@5 both ways."""
    import torch
    from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k

    if side != "open_clip":
        raise SystemExit("transformers has no retrieval metrics")
    texts, images, owners = inputs.features(given.rows[0], given.rows[1], 512)
    texts, images, owners = torch.from_numpy(texts), torch.from_numpy(images), torch.from_numpy(owners)

    @torch.inference_mode()
    def call():
        scores = texts @ images.t()
        positive = torch.zeros_like(scores, dtype=bool)
        positive[torch.arange(len(scores)), owners] = True
        ways = ((scores, positive), (scores.T, positive.T))
        return [(batchify(recall_at_k, s, p, 64, "cpu", k=5) > 0).float().mean().item() for s, p in ways]

    begun = time.perf_counter()
    return begun, call, dict(items=1, unit="evaluations", recall=call())


WORKS = dict(encode_image=encode, encode_text=encode, train=train, preprocess=preprocess, tokenize=tokenize, recall=recall)


def peak_kib():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])


def say(out, **what):
    print(json.dumps(what), file=out, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=["open_clip", "transformers", "versions"])
    parser.add_argument("work", nargs="?", choices=list(WORKS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--images", type=Path, help="file with one path a line")
    parser.add_argument("--texts", type=Path, help="file with one caption a line")
    parser.add_argument("--rows", type=int, nargs=2, metavar=("TEXTS", "IMAGES"))
    given = parser.parse_args()
    out, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no answer
    if given.side == "versions":
        return say(out, **{name: version(name) for name in PACKAGES})
    import torch

    torch.set_num_threads(given.threads)
    begun, call, ready = WORKS[given.work](given.side, given)
    while time.perf_counter() - begun < WARM_UP:
        call()
    say(out, ready=True, threads=torch.get_num_threads(), **ready)
    for _ in sys.stdin:
        times, total = [], 0.0
        while not times or total < given.seconds:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
            total += times[-1]
        say(out, seconds=times)
    say(out, peak_kib=peak_kib())


def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
