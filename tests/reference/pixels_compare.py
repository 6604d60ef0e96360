"""Compares decoded and preprocessed photographs with Pillow, and times Pillow on one core.

cargo bench -p clip-burn-clip --bench preprocess -- --write target/pixels
python tests/reference/pixels_compare.py target/pixels ../shared/photos
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

transform = Compose([Resize(224, InterpolationMode.BICUBIC), CenterCrop(224)])
ours, photos = Path(sys.argv[1]), sorted(path for path in Path(sys.argv[2]).rglob("*") if path.is_file())


def read(path, shape):
    return np.fromfile(path, np.uint8).reshape(shape)


def difference(a, b):
    return np.abs(a.astype(int) - np.asarray(b).astype(int))


def subsampling(image):
    layers = getattr(image, "layer", [])
    return "gray" if len(layers) == 1 else " ".join(f"{layer[1]}x{layer[2]}" for layer in layers[:1])


rows, kinds, images, decode_time = [], [], [], 0.0
for path in photos:
    data = path.read_bytes()
    start = time.perf_counter()
    opened = Image.open(io.BytesIO(data))
    image = opened.convert("RGB")
    decode_time += time.perf_counter() - start
    decoded = read(ours / f"{path.stem}.decoded", (image.height, image.width, 3))
    crop = read(ours / f"{path.stem}.crop", (224, 224, 3))
    rows.append(
        [difference(decoded, image), difference(crop, transform(image)), difference(crop, transform(Image.fromarray(decoded)))]
    )
    kinds.append(subsampling(opened))
    images.append(image)

start = time.perf_counter()
for image in images:
    transform(image)
resize_time = time.perf_counter() - start

names = ["decoded RGB", "224 crop from the file", "224 crop from the same RGB"]
for kind in ["all", *sorted(set(kinds))]:
    chosen = [row for row, k in zip(rows, kinds) if kind in ("all", k)]
    for i, name in enumerate(names):
        means = [row[i].mean() for row in chosen]
        largest = max(row[i].max() for row in chosen)
        print(f"{kind:5} n={len(chosen):3} {name:27} mean {np.mean(means):.4f}, worst photo {max(means):.4f}, max {largest}")
print(f"Pillow: decode {len(photos) / decode_time:.1f} images/s, resize and crop {len(photos) / resize_time:.1f} images/s")
