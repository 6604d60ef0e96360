"""CLIP_benchmark's own numbers, for comparison with `eval`.

    python tests/reference/eval_clip_benchmark.py fixture
        Runs CLIP_benchmark's metric functions on given embeddings and writes tests/fixtures/eval_clip_benchmark.*,
        which `eval/tests/clip_benchmark.rs` checks to 1e-6.

    python tests/reference/eval_clip_benchmark.py files OUT PHOTOS [SCENES] [--model ViT-B-32]
        Builds webdatasets below OUT: three from the photos below PHOTOS (one folder per class), and two from SCENES,
        which holds what the `scenes` example writes as `--format imagenet --out SCENES/classes` and
        `--format karpathy --out SCENES/retrieval`. Makes an open_clip model with random weights as a model directory
        OUT/model and scores it with CLIP_benchmark in f32. Keeps the embeddings that it made on the way.

    python tests/reference/eval_clip_benchmark.py compare OUT EVAL
        Runs the binary EVAL of the `eval` example on the same: with the same embeddings every number must agree to
        1e-6, and from the model and the images on within one sample.

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


class Recorder:
    """A model that keeps all that it returns, in order."""

    def __init__(self, model):
        self.model, self.images, self.texts = model, [], []

    def encode_image(self, images):
        self.images.append(self.model.encode_image(images))
        return self.images[-1].clone()

    def encode_text(self, texts):
        self.texts.append(self.model.encode_text(texts))
        return self.texts[-1].clone()


def photos_samples(photos):
    """The same photos with a class each, with several, and with captions."""
    from PIL import Image

    walk = ((d, f) for d, _, fs in os.walk(photos) for f in fs if f.lower().endswith(("jpeg", "jpg")))
    rng = np.random.default_rng(0)
    words = ["red", "old", "big", "quiet", "round", "wet", "two", "bright", "near", "far"]
    sets = {"classes": [], "labels": [], "captions": []}
    for i, path in enumerate(sorted(os.path.join(d, f) for d, f in walk)):
        label = i % CLASSES
        thing = os.path.splitext(os.path.basename(path))[0].split("_", 1)[-1].replace("_", " ")
        small = Image.open(path).convert("RGB")
        small.thumbnail((320, 320))
        hot = (rng.uniform(size=CLASSES) < 0.2).astype(np.int64)
        hot[label] = 1
        captions = [f"a {words[(i + c) % 10]} {thing}, {words[(i * 3 + c) % 10]}" for c in range(CAPTIONS)]
        sets["classes"].append((small, {"cls": label}))
        sets["labels"].append((small, {"npy": hot}))
        sets["captions"].append((small, {"txt": "\n".join(captions)}))
    names = [f"{words[c % 10]} thing {c}" for c in range(CLASSES)]
    templates = ["a photo of a {c}.", "a bad photo of the {c}.", "art of the {c}."]
    kinds = [("classes", None), ("labels", "multilabel"), ("captions", "retrieval")]
    return [(name, kind, sets[name], names, templates) for name, kind in kinds]


def scenes_samples(scenes):
    """What the `scenes` example wrote."""
    from PIL import Image

    lines = lambda name: open(f"{scenes}/classes/{name}").read().splitlines()
    classes = []
    for label, folder in enumerate(sorted(os.listdir(f"{scenes}/classes/images"))):
        folder = f"{scenes}/classes/images/{folder}"
        classes += [(Image.open(f"{folder}/{file}"), {"cls": label}) for file in sorted(os.listdir(folder))]
    templates = [line.replace("{}", "{c}") for line in lines("templates.txt")]
    captions = []
    for image in json.load(open(f"{scenes}/retrieval/dataset_scenes.json"))["images"]:
        text = "\n".join(sentence["raw"] for sentence in image["sentences"])
        captions.append((Image.open(f"{scenes}/retrieval/images/{image['filename']}"), {"txt": text}))
    return [("scene_classes", None, classes, lines("classnames.txt"), templates),
            ("scene_captions", "retrieval", captions, None, None)]


def write_shards(folder, kind, samples, names, templates):
    import webdataset

    os.makedirs(f"{folder}/test", exist_ok=True)
    with webdataset.ShardWriter(f"{folder}/test/%d.tar", maxcount=50, verbose=0) as sink:
        for i, (image, labels) in enumerate(samples):
            buffer = io.BytesIO()
            image.save(buffer, "webp", lossless=True)
            sink.write({"__key__": f"s{i:07d}", "webp": buffer.getvalue(), **labels})
    texts = {"test/nshards.txt": [str(sum(f.endswith(".tar") for f in os.listdir(f"{folder}/test")))]}
    if kind:
        texts["dataset_type.txt"] = [kind]
    if kind != "retrieval":
        texts |= {"classnames.txt": names, "zeroshot_classification_templates.txt": templates}
    for name, lines in texts.items():
        with open(f"{folder}/{name}", "w") as file:
            print(*lines, sep="\n", file=file)


def make_model(folder, name):
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/open_clip_config.json", "w") as file:
        cfg = {"size": model.visual.image_size, "mode": "RGB", "mean": open_clip.OPENAI_DATASET_MEAN,
               "std": open_clip.OPENAI_DATASET_STD, "interpolation": "bicubic", "resize_mode": "shortest",
               "fill_color": 0}
        json.dump({"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": cfg}, file)
    state = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("attn_mask")}
    save_file(state, f"{folder}/open_clip_model.safetensors")
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


@torch.no_grad()
def files(out, photos, scenes=None, model_name="ViT-B-32"):
    from clip_benchmark.datasets.builder import build_dataset
    from safetensors.torch import save_file

    sets = photos_samples(photos) + (scenes_samples(scenes) if scenes else [])
    model, preprocess, tokenizer = make_model(f"{out}/model", model_name)
    for name, kind, *content in sets:
        write_shards(f"{out}/{name}", kind, *content)
        recorder = Recorder(model)
        task = "zeroshot_retrieval" if kind == "retrieval" else "zeroshot_classification"
        dataset = build_dataset(f"wds/{name}", root=f"{out}/{name}", transform=preprocess, split="test", task=task)
        if kind == "retrieval":
            collate = lambda b: (torch.stack([x for x, _ in b]), [t for _, t in b])
            loader = torch.utils.data.DataLoader(dataset.batched(64, collation_fn=collate), batch_size=None)
            metrics = zeroshot_retrieval.evaluate(
                recorder, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5, 10])
        else:
            loader = torch.utils.data.DataLoader(dataset.batched(64), batch_size=None)
            loader.dataset.classes = dataset.classes
            metrics = zeroshot_classification.evaluate(
                recorder, loader, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False)
        features = {"image_features": torch.cat(recorder.images), "text_features": torch.cat(recorder.texts)}
        save_file(features, f"{out}/{name}.safetensors")
        result = {"dataset": f"wds/{name}", "model": model_name, "pretrained": "CLIP_benchmark", "task": task,
                  "metrics": metrics, "language": "en"}
        with open(f"{out}/{name}.json", "w") as file:
            json.dump(result, file)
        print(result)


def compare(out, binary):
    import subprocess

    wrong = 0
    for path in sorted(f for f in os.listdir(out) if f.endswith(".json") and f.count(".") == 1):
        name = path[: -len(".json")]
        theirs = json.load(open(f"{out}/{path}"))
        if theirs["task"] == "zeroshot_retrieval":
            command = ["retrieval", "--format", "wds", "--annotations", f"{out}/{name}", "--name", name]
        else:
            command = ["zero-shot", "--dataset", f"wds/{name}", "--root", f"{out}/{name}"]
        stored = f"{out}/{name}.safetensors"
        ways = {"features": ["--image-features", stored, "--text-features", stored], "files": ["--model", f"{out}/model"]}
        for way, source in ways.items():
            result = f"{out}/{name}.{way}.json"
            subprocess.run([binary, *command, *source, "--output", result], check=True, stdout=subprocess.DEVNULL)
            ours = json.load(open(result))
            for metric, value in theirs["metrics"].items():
                details = ours["details"]
                samples = details["texts"] if metric.startswith("image_retrieval") else details["images"]
                # From files on, one image may fall to the other side: of the smallest class, for a mean over classes.
                per_class = "per_class" in metric or "average_precision" in metric
                one = 1 / CLASSES if per_class else 1 / samples
                allowed = 1e-6 if way == "features" else one + 1e-6
                difference = abs(value - ours["metrics"][metric])
                wrong += difference > allowed
                print(f"{name:<15} {way:<9} {metric:<27} {value:.9f} {ours['metrics'][metric]:.9f} {difference:.1e}"
                      + ("" if difference <= allowed else "  TOO FAR"))
    sys.exit(f"{wrong} numbers are too far apart" if wrong else 0)


def arguments(words):
    """Positional arguments and `--model NAME`."""
    if "--model" not in words:
        return words, {}
    at = words.index("--model")
    return words[:at] + words[at + 2:], {"model_name": words[at + 1]}


if __name__ == "__main__":
    positional, named = arguments(sys.argv[2:])
    {"fixture": fixture, "files": files, "compare": compare}[sys.argv[1]](*positional, **named)
