"""The same work as throughput.rs by webdataset, torchvision and PyTorch's DataLoader.

    python bench/loader/peer.py SHARDS MODE WORKERS BATCH SECONDS [float]

The transforms are open_clip's. With `float` images are normalised f32 as in open_clip; without they stay u8, as ours do
(normalisation is the device's work there). Prints one line of JSON.
"""

import json
import sys
import time

import torch
import webdataset as wds
from torchvision import transforms as T

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BICUBIC = T.InterpolationMode.BICUBIC


def transform(mode, as_float):
    if mode == "eval":
        steps = [T.Resize(224, interpolation=BICUBIC), T.CenterCrop(224)]
    else:
        steps = [T.RandomResizedCrop(224, scale=(0.9, 1.0), interpolation=BICUBIC)]
    steps.append(lambda image: image.convert("RGB"))
    if mode == "jitter":
        steps.append(T.RandomApply([T.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8))
        steps.append(T.RandomGrayscale(p=0.2))
    steps += [T.ToTensor(), T.Normalize(MEAN, STD)] if as_float else [T.PILToTensor()]
    return T.Compose(steps)


def main(shards, mode, workers, batch, seconds, kind="u8"):
    workers, batch, seconds = int(workers), int(batch), float(seconds)
    data = (
        wds.WebDataset(shards, resampled=True)
        .shuffle(1000)
        .decode("pilrgb")
        .to_tuple("jpg", "txt")
        .map_tuple(transform(mode, kind == "float"), lambda text: text)
        .batched(batch, partial=False)
    )
    loader = wds.WebLoader(data, batch_size=None, shuffle=False, num_workers=workers)
    batches = iter(loader)
    start = time.perf_counter()
    next(batches)
    first = time.perf_counter() - start
    for _ in range(workers * 2):  # what the workers made ahead while starting
        next(batches)
    start, images = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        images += next(batches)[0].shape[0]
    rate = images / (time.perf_counter() - start)
    print(json.dumps({"images_per_second": round(rate, 1), "first_batch_seconds": round(first, 3)}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
