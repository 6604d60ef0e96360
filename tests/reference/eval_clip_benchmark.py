"""CLIP_benchmark's own numbers, for comparison with `eval`.

    python tests/reference/eval_clip_benchmark.py fixture
        Runs CLIP_benchmark's metric functions on given embeddings and writes tests/fixtures/eval_clip_benchmark.*,
        which `eval/tests/clip_benchmark.rs` checks to 1e-6.

    python tests/reference/eval_clip_benchmark.py files PHOTOS OUT [MODEL]
        Builds three webdatasets from the photos below PHOTOS (one folder per class), makes an open_clip model with
        random weights (default ViT-B-32) as a model directory OUT/model, and scores it with CLIP_benchmark in f32.
        Then `eval zero-shot --model OUT/model --dataset wds/classes --root OUT/classes` and so on must agree.

Needs torch 2, open_clip_torch 3.3, clip-benchmark 1.6.2, webdataset 1.0, safetensors. Run from the repository root.
"""

import io
import json
import os
import sys

import numpy as np
import torch

from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval



def accuracy(output, target, topk=(1,)):
    """CLIP_benchmark's `accuracy`; its last line fails with numpy 2.4, which no longer makes a number of `[x]`."""
    correct = output.topk(max(topk), 1, True, True)[1].t().eq(target.view(1, -1))
    return [correct[:k].float().sum().item() / len(target) for k in topk]


zeroshot_classification.accuracy = accuracy

CLASSES, IMAGES, DIM, TEMPLATES, CAPTIONS = 12, 120, 24, 3, 5


class Stored:
    """A model whose inputs are row numbers and whose outputs are stored embeddings."""

    def __init__(self, images, texts):
        self.images, self.texts = torch.from_numpy(images), torch.from_numpy(texts)

    def encode_image(self, rows):
        return self.images[rows.long().flatten()]

    def encode_text(self, rows):
        return self.texts[rows.long().flatten()]


class Batches(list):
    """A list of batches that knows its classes, as CLIP_benchmark expects of a loader."""

    def __init__(self, batches, classes):
        super().__init__(batches)
        self.dataset = type("Dataset", (), {"classes": classes})


def row_numbers(texts):
    return torch.tensor([int(text.split()[-1]) for text in texts])


def fixture():
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    labels = np.arange(IMAGES) % CLASSES
    labels[labels == 7] = 3  # class 7 has no image
    centres = normal(CLASSES, DIM)
    images = (centres[labels] + 3.0 * normal(IMAGES, DIM)) * rng.uniform(0.5, 20, size=(IMAGES, 1)).astype(np.float32)
    prompts = np.repeat(centres, TEMPLATES, 0) + 1.2 * normal(CLASSES * TEMPLATES, DIM)
    captions = np.repeat(images / np.linalg.norm(images, axis=1, keepdims=True), CAPTIONS, 0)
    captions = (captions + 0.35 * normal(IMAGES * CAPTIONS, DIM)).astype(np.float32)
    relevant = (rng.uniform(size=(IMAGES, CLASSES)) < 0.2).astype(np.uint8)
    relevant[np.arange(IMAGES), labels] = 1
    relevant[:, 5] = 0  # a class without relevant images

    names = [f"class {c * TEMPLATES}" for c in range(CLASSES)]
    by_class = {name: [f"prompt {c * TEMPLATES + t}" for t in range(TEMPLATES)] for c, name in enumerate(names)}
    rows = torch.arange(IMAGES).split(32)

    def classification(targets):
        loader = Batches([(r, torch.from_numpy(targets)[r]) for r in rows], names)
        model = Stored(images, prompts.astype(np.float32))
        return zeroshot_classification.evaluate(model, loader, row_numbers, names, by_class, "cpu", amp=False)

    texts = [[f"caption {i * CAPTIONS + c}" for c in range(CAPTIONS)] for i in range(IMAGES)]
    loader = [(r, [texts[i] for i in r.tolist()]) for r in rows]
    model = Stored(images, captions)
    retrieval = zeroshot_retrieval.evaluate(model, loader, row_numbers, "cpu", amp=False, recall_k_list=[1, 5, 10])

    expected = {
        "classes": CLASSES, "templates": TEMPLATES, "captions": CAPTIONS,
        "labels": labels.tolist(), "relevant": relevant.tolist(),
        "single": classification(labels), "multi": classification(relevant), "retrieval": retrieval,
    }
    from safetensors.numpy import save_file

    tensors = {"images": images.astype(np.float32), "prompts": prompts.astype(np.float32), "captions": captions}
    save_file(tensors, "tests/fixtures/eval_clip_benchmark.safetensors")
    with open("tests/fixtures/eval_clip_benchmark.json", "w") as file:
        json.dump(expected, file, separators=(",", ":"))
        file.write("\n")
    print({k: expected[k] for k in ("single", "multi", "retrieval")})


def files(photos, out, model_name="ViT-B-32"):
    import open_clip
    import webdataset
    from clip_benchmark.datasets.builder import build_dataset
    from PIL import Image
    from safetensors.torch import save_file

    paths = sorted(os.path.join(d, f) for d, _, fs in os.walk(photos) for f in fs if f.lower().endswith(("jpeg", "jpg")))
    rng = np.random.default_rng(0)
    kinds = {"classes": None, "labels": "multilabel", "captions": "retrieval"}
    words = ["red", "old", "big", "quiet", "round", "wet", "two", "bright", "near", "far"]
    for name, kind in kinds.items():
        os.makedirs(f"{out}/{name}/test", exist_ok=True)
        with webdataset.ShardWriter(f"{out}/{name}/test/%d.tar", maxcount=50, verbose=0) as sink:
            for i, path in enumerate(paths):
                label = i % CLASSES
                thing = os.path.splitext(os.path.basename(path))[0].split("_", 1)[-1].replace("_", " ")
                small = Image.open(path).convert("RGB")
                small.thumbnail((320, 320))
                buffer = io.BytesIO()
                small.save(buffer, "webp", lossless=True)
                sample = {"__key__": f"s{i:07d}", "webp": buffer.getvalue()}
                if kind is None:
                    sample["cls"] = label
                elif kind == "multilabel":
                    hot = (rng.uniform(size=CLASSES) < 0.2).astype(np.int64)
                    hot[label] = 1
                    sample["npy"] = hot
                else:
                    sample["txt"] = "\n".join(f"a {words[(i + c) % 10]} {thing}, {words[(i * 3 + c) % 10]}" for c in range(CAPTIONS))
                sink.write(sample)
        with open(f"{out}/{name}/test/nshards.txt", "w") as file:
            print(sum(f.endswith(".tar") for f in os.listdir(f"{out}/{name}/test")), file=file)
        if kind:
            with open(f"{out}/{name}/dataset_type.txt", "w") as file:
                print(kind, file=file)
        if kind != "retrieval":
            with open(f"{out}/{name}/classnames.txt", "w") as file:
                print(*[f"{words[c % 10]} thing {c}" for c in range(CLASSES)], sep="\n", file=file)
            with open(f"{out}/{name}/zeroshot_classification_templates.txt", "w") as file:
                print("a photo of a {c}.", "a bad photo of the {c}.", "art of the {c}.", sep="\n", file=file)

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(model_name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(model_name)
    os.makedirs(f"{out}/model", exist_ok=True)
    with open(f"{out}/model/open_clip_config.json", "w") as file:
        size = model.visual.image_size
        cfg = {"size": size, "mode": "RGB", "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD,
               "interpolation": "bicubic", "resize_mode": "shortest", "fill_color": 0}
        json.dump({"model_cfg": open_clip.get_model_config(model_name), "preprocess_cfg": cfg}, file)
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("attn_mask")}
    save_file(state, f"{out}/model/open_clip_model.safetensors")

    for name, kind in kinds.items():
        task = "zeroshot_retrieval" if kind == "retrieval" else "zeroshot_classification"
        dataset = build_dataset(f"wds/{name}", root=f"{out}/{name}", transform=preprocess, split="test", task=task)
        collate = (lambda b: (torch.stack([x for x, _ in b]), [t for _, t in b])) if kind == "retrieval" else None
        loader = torch.utils.data.DataLoader(dataset.batched(64, collation_fn=collate) if collate else dataset.batched(64), batch_size=None)
        if kind == "retrieval":
            metrics = zeroshot_retrieval.evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
        else:
            loader.dataset.classes = dataset.classes
            metrics = zeroshot_classification.evaluate(
                model, loader, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False)
        result = {"dataset": f"wds/{name}", "model": model_name, "pretrained": "CLIP_benchmark", "task": task,
                  "metrics": metrics, "language": "en"}
        with open(f"{out}/{name}.json", "w") as file:
            json.dump(result, file)
        print(result)


if __name__ == "__main__":
    {"fixture": fixture, "files": files}[sys.argv[1]](*sys.argv[2:])
