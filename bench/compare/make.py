"""What all sides read: checkpoints with random weights, captions, photos as shards. Nothing is downloaded.

    python bench/compare/make.py DIR --models ViT-B-32 scenes [--captions N] [--photos PHOTOS [--limit N]] [--zero-shot ViT-B-32]
                                    [--llama tiny|full]

Makes only what is not there:

    DIR/MODEL/config.json, model.safetensors     a CLIPModel as transformers saves it, with its tokenizer; candle and clip-burn read it, too
    DIR/MODEL/open_clip.json                     its configuration in open_clip's schema
    DIR/MODEL-open_clip/                         the same weights as open_clip saves them (--zero-shot)
    DIR/tokenizer/                               CLIP's tokenizer as transformers saves it, from open_clip's vocabulary
    DIR/captions-N.txt                           one caption a line
    DIR/llama/                                   a Llama with random weights, of 110 M parameters where it is full
    DIR/photos-N/                                N photos in CLIP_benchmark's webdataset layout
"""

import argparse
import io
import json
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizerFast, LlamaConfig, LlamaForCausalLM

from weights import open_clip_model

ROOT = Path(__file__).resolve().parents[2]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TEMPLATES = ["a photo of a {c}.", "a blurry photo of a {c}.", "a black and white photo of a {c}.", "a photo of a small {c}.",
             "a photo of a big {c}.", "a bad photo of the {c}.", "a close-up photo of the {c}.", "a photo of one {c}."]
SHARDS = 4


def config_of(name):
    """A preset of this project, or one of open_clip's architectures."""
    preset = ROOT / f"clip/src/presets/{name}.json"
    return json.loads(preset.read_text()) if preset.exists() else open_clip.get_model_config(name)


def hugging_face(config):
    """The same architecture in transformers' schema."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    activation = "quick_gelu" if config.get("quick_gelu") else "gelu"
    return CLIPConfig(
        projection_dim=config["embed_dim"],
        vision_config=dict(hidden_size=vision["width"], intermediate_size=4 * vision["width"], num_hidden_layers=vision["layers"],
                           num_attention_heads=vision["width"] // vision.get("head_width", 64), image_size=vision["image_size"],
                           patch_size=vision["patch_size"], hidden_act=activation, projection_dim=config["embed_dim"]),
        text_config=dict(hidden_size=text["width"], intermediate_size=4 * text["width"], num_hidden_layers=text["layers"],
                         num_attention_heads=text["heads"], vocab_size=text["vocab_size"],
                         max_position_embeddings=text["context_length"], hidden_act=activation, projection_dim=config["embed_dim"]),
    )


def model(folder, name):
    tokenizer(folder)
    if (folder / "model.safetensors").exists():
        return
    config = config_of(name)
    side = config["vision_cfg"]["image_size"]
    torch.manual_seed(0)
    made = CLIPModel(hugging_face(config))
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(folder)
    (folder / "open_clip.json").write_text(json.dumps(config))
    made.save_pretrained(folder)


def as_open_clip(folder, source):
    if (folder / "open_clip_config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((source / "open_clip.json").read_text())
    state = {name: tensor.contiguous().clone() for name, tensor in open_clip_model(source).state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    preprocess = dict(mean=MEAN, std=STD, interpolation="bicubic", resize_mode="shortest")
    (folder / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))


def tokenizer(folder):
    if (folder / "tokenizer.json").exists():
        return
    clip = SimpleTokenizer()
    specials = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocab = {specials.get(token, token): at for token, at in clip.encoder.items()}
    merges = sorted(clip.bpe_ranks, key=clip.bpe_ranks.get)
    CLIPTokenizerFast(vocab=vocab, merges=merges, model_max_length=77).save_pretrained(folder)


def captions(file, count):
    """Sentences of English words, a few of them in capitals, with numbers, marks and words that no vocabulary has."""
    if file.exists():
        return
    words = [token[:-4] for token in SimpleTokenizer().encoder if token.endswith("</w>") and token[:-4].isascii()]
    words = [word for word in words if word.isalpha() and 2 < len(word) < 11][:8000]
    draw = random.Random(0)

    def word():
        chosen = words[int(len(words) * draw.random() ** 2)]  # frequent ones come first in the vocabulary
        kind = draw.random()
        if kind < 0.04:
            return chosen + draw.choice(words)
        return str(draw.randrange(2000)) if kind < 0.06 else chosen.capitalize() if kind < 0.12 else chosen

    lines = (" ".join(word() for _ in range(draw.randint(6, 18))) + draw.choice([".", "", "!", ", too."]) for _ in range(count))
    file.write_text("".join(f"A {line}\n" for line in lines))


def photos(folder, source, limit):
    """One class for each folder of photos, named by the words in its first file's name."""
    if (folder / "classnames.txt").exists():
        return
    classes = sorted(path for path in source.iterdir() if path.is_dir())[: limit or None]
    found = [(file, label) for label, path in enumerate(classes) for file in sorted(path.iterdir())]
    found = [(file, label) for file, label in found if file.suffix.lower() in (".jpg", ".jpeg")][: limit or None]
    if not found:
        raise SystemExit(f"{source}: no folders with JPEGs; give --photos a folder with one sub-folder for each class")
    (folder / "test").mkdir(parents=True, exist_ok=True)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"test/{shard}.tar", "w") as archive:
            for at in range(shard, len(found), SHARDS):
                file, label = found[at]
                for extension, data in (("jpg", file.read_bytes()), ("cls", str(label).encode())):
                    info = tarfile.TarInfo(f"{at:06d}.{extension}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    (folder / "test/nshards.txt").write_text(str(SHARDS))
    (folder / "zeroshot_classification_templates.txt").write_text("\n".join(TEMPLATES) + "\n")
    (folder / "images.txt").write_text("".join(f"{file.resolve()}\n" for file, _ in found))
    names = [" ".join(sorted(path.iterdir())[0].stem.split("_")[1:]).lower() or path.name for path in classes]
    (folder / "classnames.txt").write_text("\n".join(names) + "\n")  # the last one: it says that all is there


def llama(folder, size):
    """That of bench/generate, or a tiny one."""
    if (folder / "tokenizer.model").exists():
        return
    if size == "full":
        subprocess.run([sys.executable, "bench/generate/peer.py", "make", folder.resolve()], cwd=ROOT, check=True)
        return
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32000, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
                         num_key_value_heads=4, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes((ROOT / "tests/fixtures/llm/tokenizer.model").read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--zero-shot", metavar="MODEL")
    parser.add_argument("--captions", type=int)
    parser.add_argument("--llama", choices=["tiny", "full"])
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--limit", type=int, default=0, help="photos at most; 0: all")
    given = parser.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    for name in given.models:
        model(given.dir / name, name)
    if given.zero_shot:
        as_open_clip(given.dir / f"{given.zero_shot}-open_clip", given.dir / given.zero_shot)
    if given.captions:
        tokenizer(given.dir / "tokenizer")
        captions(given.dir / f"captions-{given.captions}.txt", given.captions)
    if given.llama:
        llama(given.dir / "llama", given.llama)
    if given.photos:
        photos(given.dir / f"photos-{given.limit or 'all'}", given.photos, given.limit)


if __name__ == "__main__":
    main()
