"""Tiny SigLIP models as directories: open_clip's and Hugging Face's layouts, with tokenizers and preprocessing.

Run from the root of the repository, after tokenizer_hf.py: python tests/reference/siglip_directories.py
Writes tests/fixtures/models/siglip_{open_clip,hugging_face}/ and siglip_expected.json: for each directory the texts, their
ids, and the features of an image whose pixels are `sin(0.01 · i)`.
"""

import json
import math
import shutil
from functools import partial
from pathlib import Path
from unittest.mock import patch

import timm
import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel

from towers_timm import SIGLIP_TEXT, randomize, tower

FIXTURES = Path("tests/fixtures")
TOKENIZER = FIXTURES / "tokenizer_siglip"
CONTEXT = 12
TEXTS = ["a photo of a cat", "Two PEOPLE standing, on the beach!", "", "a " * 30]


def image(size):
    pixels = torch.tensor([math.sin(0.01 * i) for i in range(3 * size * size)])
    return pixels.reshape(1, 3, size, size)


def tokenizer():
    return PreTrainedTokenizerFast(
        tokenizer_file=str(TOKENIZER / "tokenizer.json"), pad_token="</s>", eos_token="</s>", unk_token="<unk>"
    )


def rows(clean):
    with patch("transformers.AutoTokenizer.from_pretrained", return_value=tokenizer()):
        return HFTokenizer("local", context_length=CONTEXT, clean=clean)(TEXTS)


def half(model):
    """Half precision on disk; both sides then compute with the same values."""
    return model.half().float()


def open_clip_directory(out, vocab):
    config = dict(
        embed_dim=8,
        init_logit_bias=-10,
        custom_text=True,
        vision_cfg=tower("vit_base_patch16_siglip_224", "map", "none", 16, embed_dim=8, depth=1),
        text_cfg=dict(context_length=CONTEXT, vocab_size=vocab, width=8, heads=2, layers=1, hf_tokenizer_name="timm/tiny",
                      tokenizer_kwargs=dict(clean="canonicalize")) | SIGLIP_TEXT,
    )
    built = json.loads(json.dumps(config))
    built.pop("custom_text")
    kwargs = built["vision_cfg"].pop("timm_model_kwargs")
    for name in ("hf_tokenizer_name", "tokenizer_kwargs"):
        built["text_cfg"].pop(name)
    with patch("timm.create_model", partial(timm.create_model, **kwargs)):
        model = CustomTextCLIP(**built).eval()
    randomize(model, torch.Generator().manual_seed(1))
    model = half(model)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, out / "open_clip_model.safetensors")
    preprocess = dict(size=16, mode="RGB", mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash")
    text = json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess), indent=1)
    (out / "open_clip_config.json").write_text(text + "\n")
    ids = rows("canonicalize")
    return ids, model.encode_image(image(16)), model.encode_text(ids)


def hugging_face_directory(out, vocab):
    shape = dict(hidden_size=8, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2)
    tokens = dict(bos_token_id=None, eos_token_id=1, pad_token_id=1)
    config = SiglipConfig(
        text_config=dict(vocab_size=vocab, max_position_embeddings=CONTEXT, **tokens, **shape),
        vision_config=dict(image_size=16, patch_size=8, **shape),
    )
    model = SiglipModel(config).eval()
    randomize(model, torch.Generator().manual_seed(2))
    model = half(model)
    model.half().save_pretrained(out)
    model = model.float()
    SiglipImageProcessor(size=dict(height=16, width=16)).save_pretrained(out)
    ids = rows("canonicalize")
    return ids, model.get_image_features(image(16)).pooler_output, model.get_text_features(ids).pooler_output


def main():
    torch.set_num_threads(1)
    expected = {}
    vocab = len(tokenizer())
    for name, write in [("siglip_open_clip", open_clip_directory), ("siglip_hugging_face", hugging_face_directory)]:
        out = FIXTURES / "models" / name
        out.mkdir(parents=True, exist_ok=True)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TOKENIZER / file, out / file)
        with torch.no_grad():
            ids, images, texts = write(out, vocab)
        expected[name] = dict(ids=ids.tolist(), image_features=images.tolist(), text_features=texts.tolist())
        print(name, sorted((path.name, path.stat().st_size) for path in out.iterdir()))
    expected["texts"] = TEXTS
    (FIXTURES / "models/siglip_expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
