"""Directories of a tiny CLIPModel with several image processors, as transformers saves them, and what it makes of them.

    python tests/reference/transformers_clip.py OUT [--photos PHOTOS]
    CLIP_TRANSFORMERS=OUT cargo test --workspace --test transformers -- --ignored

Works with transformers 4.44 and 5; the version is part of each directory's name. Texts are the file of tokenizer.py, with
ligatures, HTML references and damaged characters among them; the vocabulary is CLIP's own. Images have odd sizes. Writes
OUT/VERSION_KIND/: the directory, `images/*.png`, and `expected.safetensors`: `slow` and `fast` pixels (where both exist),
`ids`, `image_features` of the slow pixels and `text_features`.
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Slow
    from transformers import CLIPImageProcessor as Fast
except ImportError:  # version 4
    from transformers import CLIPImageProcessor as Slow
    Fast = None

MERGES = Path("clip/assets/tokenizer/bpe_simple_vocab_16e6.txt.gz")
TEXTS = Path("tests/fixtures/tokenizer_clip.jsonl.gz")
SIDE = 32
PROCESSORS = {
    "default": {},
    "longer_edge": {"size": {"shortest_edge": 45}},
    "bilinear": {"resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]},
    "raw": {"do_normalize": False},
    "factor": {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    "squash": {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False},
}


def vocabulary():
    """CLIP's byte-pair encoding as `vocab.json` and `merges.txt` have it."""
    with gzip.open(MERGES, "rt", encoding="utf-8") as file:
        merges = file.read().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = [chr(n) for n in letters]
    symbols += [chr(256 + i) for i in range(256 - len(letters))]
    tokens = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(merge.split()) for merge in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return {token: i for i, token in enumerate(tokens)}, merges


def tokenizer(folder):
    vocab, merges = vocabulary()
    assert len(vocab) == 49408
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    made = CLIPTokenizerFast.from_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    made.save_pretrained(folder)
    return made


def images(folder, photos):
    folder.mkdir()
    rng = np.random.default_rng(0)
    files = sorted(Path(photos).glob("*/*.JPEG"))[::6][:16] if photos else []
    made = [Image.open(file).convert("RGB") for file in files]
    made = [image.resize((image.width // 3 + i, image.height // 3 + 2 * i)) for i, image in enumerate(made)]
    for height, width in [(33, 61), (61, 33), (32, 32), (45, 45), (47, 96), (99, 40), (38, 51), (200, 37)]:
        made.append(Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)))
    for i, image in enumerate(made):
        image.save(folder / f"{i:02}.png")
    return made


def texts():
    with gzip.open(TEXTS, "rt", encoding="utf-8") as lines:
        found = [json.loads(line)[0] for line in lines]
    # One line each: they travel as a text file too.
    return [text for text in found if len(text.splitlines()) == 1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--photos", type=Path)
    arguments = parser.parse_args()
    version = transformers.__version__
    for kind, settings in PROCESSORS.items():
        folder = arguments.out / f"{version}_{kind}"
        folder.mkdir(parents=True)
        slow = Slow(**{"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, **settings})
        torch.manual_seed(0)
        config = CLIPConfig(
            projection_dim=16,
            vision_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                               image_size=SIDE, patch_size=8),
            text_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                             vocab_size=49408, max_position_embeddings=77, eos_token_id=49407, bos_token_id=49406),
        )
        model = CLIPModel(config).eval()
        for parameter in model.parameters():
            parameter.data += torch.randn_like(parameter) * 0.02
        words, pictures = texts(), images(folder / "images", arguments.photos)
        tokens = tokenizer(folder)
        if version.startswith("4"):
            slow.save_pretrained(folder)
        else:
            transformers.CLIPProcessor(image_processor=Fast(**slow.to_dict()), tokenizer=tokens).save_pretrained(folder)
        model.save_pretrained(folder)
        ids = tokens(words, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        one = lambda processor: torch.cat([processor(image, return_tensors="pt").pixel_values for image in pictures])
        expected = {"slow": one(slow), "ids": ids}
        if Fast is not None:
            expected["fast"] = one(Fast(**slow.to_dict()))
        tensor = lambda output: output if isinstance(output, torch.Tensor) else output.pooler_output
        with torch.no_grad():
            expected["image_features"] = tensor(model.get_image_features(pixel_values=expected["slow"]))
            mask = torch.ones_like(ids)
            expected["text_features"] = torch.cat([
                tensor(model.get_text_features(input_ids=part, attention_mask=m)) for part, m in zip(ids.split(64), mask.split(64))
            ])
        save_file({name: value.contiguous() for name, value in expected.items()}, folder / "expected.safetensors")
        (folder / "texts.json").write_text(json.dumps(words))
        print(folder, sorted(path.name for path in folder.iterdir()))


if __name__ == "__main__":
    main()
