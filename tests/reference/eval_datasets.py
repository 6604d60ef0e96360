"""Writes small data sets in the formats in which they are published, and what torchvision reads in them, as
tests/fixtures/eval_datasets/. torchvision reads CIFAR's Python version, so the same images are given to it in that.

Needs torchvision 0.2x and scipy 1.x. Run from the repository root.
"""

import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, MNIST, STL10, Flowers102, Food101, OxfordIIITPet

ROOT = Path("tests/fixtures/eval_datasets")
rng = np.random.default_rng(0)
expected = {}


def put(path, content):
    path = ROOT / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def lines(rows):
    return "".join(f"{row}\n" for row in rows)


def smooth(n, channels, side):
    """Images that compress well and have no symmetry: a value depends on image, plane, row and column."""
    i, c, y, x = np.meshgrid(np.arange(n), np.arange(channels), np.arange(side), np.arange(side), indexing="ij")
    return ((7 * i + 50 * c + 3 * (y // 8) + (x // 8)) % 256).astype(np.uint8)


class Unchecked:
    def _check_integrity(self):
        return True


def pixels(dataset):
    """Labels, and the pixels at (x, y) = (9, 1) and (1, 17) of every image."""
    rows = []
    for image, label in dataset:
        image = image.convert("RGB")
        rows.append([int(label), list(image.getpixel((9, 1))), list(image.getpixel((1, 17)))])
    return rows


def files(images, labels):
    return [[int(label), Path(image).name] for image, label in zip(images, labels)]


# CIFAR: the binary version here, the same pickled for torchvision.
for name, classes, folder, test, labels in [
    ("cifar10", 10, "cifar-10-batches-bin", "test_batch.bin", [[3], [9]]),
    ("cifar100", 100, "cifar-100-binary", "test.bin", [[19, 0], [1, 99]]),
]:
    images = smooth(2, 3, 32)
    put(f"{folder}/{test}", b"".join(bytes(l) + i.tobytes() for l, i in zip(labels, images)))
    names = [f"class_{i}" for i in range(classes)]
    put(f"{folder}/{'batches.meta.txt' if classes == 10 else 'fine_label_names.txt'}", lines(names))
    reader = type(name, (Unchecked, CIFAR10 if classes == 10 else CIFAR100), {})
    reader.train_list = []
    with tempfile.TemporaryDirectory() as root:
        base = Path(root) / reader.base_folder
        base.mkdir()
        fine = [l[-1] for l in labels]
        key = "labels" if classes == 10 else "fine_labels"
        batch = {"data": images.reshape(2, -1), key: fine}
        (base / reader.test_list[0][0]).write_bytes(pickle.dumps(batch))
        reader.meta = {**reader.meta, "md5": None}
        (base / reader.meta["filename"]).write_bytes(pickle.dumps({reader.meta["key"]: names}))
        expected[name] = pixels(reader(root, train=False))

# STL-10: columns before rows.
put("stl10_binary/test_X.bin", smooth(1, 3, 96).tobytes())  # one, for its size
put("stl10_binary/test_y.bin", bytes([10]))
put("stl10_binary/class_names.txt", lines(f"class_{i}" for i in range(10)))
reader = type("stl10", (Unchecked, STL10), {})
expected["stl10"] = pixels(reader(ROOT, split="test"))

images = smooth(3, 1, 28)
put("MNIST/raw/t10k-images-idx3-ubyte", bytes([0, 0, 8, 3]) + np.array(images[:, 0].shape, ">u4").tobytes() + images.tobytes())
put("MNIST/raw/t10k-labels-idx1-ubyte", bytes([0, 0, 8, 1]) + np.array([3], ">u4").tobytes() + bytes([7, 0, 9]))
for kind in ["images-idx3", "labels-idx1"]:  # torchvision wants both splits
    put(f"MNIST/raw/train-{kind}-ubyte", (ROOT / f"MNIST/raw/t10k-{kind}-ubyte").read_bytes())
expected["mnist"] = pixels(MNIST(ROOT, train=False))
for kind in ["images-idx3", "labels-idx1"]:
    (ROOT / f"MNIST/raw/train-{kind}-ubyte").unlink()

# Flowers-102: MATLAB's files are compressed.
labels = rng.integers(1, 103, 12).astype(np.uint8)
splits = {"trnid": [[2, 5]], "valid": [[1, 9, 11]], "tstid": [[12, 3, 4, 10]]}
(ROOT / "flowers-102").mkdir(exist_ok=True)
savemat(ROOT / "flowers-102/imagelabels.mat", {"labels": labels.reshape(1, -1)}, do_compression=True)
savemat(ROOT / "flowers-102/setid.mat", {k: np.array(v, np.uint16) for k, v in splits.items()}, do_compression=True)
reader = type("flowers", (Unchecked, Flowers102), {})
flowers = reader(ROOT, split="test")
expected["flowers"] = files(flowers._image_files, flowers._labels)

dishes = [f"dish_{i:03}" for i in range(101)]
chosen = {dish: [f"{dish}/{100 + i}"] if i % 40 == 0 else [] for i, dish in enumerate(dishes)}
put("food-101/meta/classes.txt", lines(dishes))
put("food-101/meta/test.txt", lines(row for rows in chosen.values() for row in rows))
put("food-101/meta/test.json", json.dumps(chosen))
(ROOT / "food-101/images").mkdir(exist_ok=True)
food = Food101(ROOT, split="test")
expected["food101"] = files(food._image_files, food._labels)
(ROOT / "food-101/meta/test.json").unlink()
(ROOT / "food-101/images").rmdir()

put("oxford-iiit-pet/annotations/test.txt", "Abyssinian_201 1 1 1\nyorkshire_terrier_9 37 2 25\nBengal_3 6 1 3\n")
(ROOT / "oxford-iiit-pet/images").mkdir(exist_ok=True)
pets = OxfordIIITPet(ROOT, split="test")
expected["pets"] = files(pets._images, pets._labels)
(ROOT / "oxford-iiit-pet/images").rmdir()

rows = lines(f'  "{name}": {json.dumps(found)},' for name, found in expected.items())
put("expected.json", "{\n" + rows.rstrip(",\n") + "\n}\n")
