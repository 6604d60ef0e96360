"""Writes tiny tokenizers of other families and the rows that open_clip makes with them.

    python tests/reference/tokenizer_hf.py

- `tests/fixtures/tokenizer_bert/`: BERT's WordPiece, as used by CLIPA (`strip_sep_token`) and CLIPS (`mode = clips`)
- `tests/fixtures/tokenizer_siglip/`: a SentencePiece-like unigram model with SigLIP's special tokens
- `tests/fixtures/tokenizer_gemma/`: a byte-pair model with byte fallback and Gemma's special tokens, as used by SigLIP 2
- `tests/fixtures/tokenizer_hf.json`: `[case, text, context_length, row]`

Needs open_clip_torch 3.3.0, transformers and tokenizers. The vocabularies are made of the words below.
"""

import json
import string
from pathlib import Path

from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizerFast

FIXTURES = Path("tests/fixtures")
WORDS = """a the photo of cat dog red blue large small in on with two people standing beach mountain diagram human
cafe naive don t s it is street sign light 2024""".split()
TEXTS = ["a photo of a cat", "A Photo of the LARGE red dogs.", "", "it's naïve; café!", "don't [SEP] stop_sign", "北京 diagram 2024",
         "two people standing on the beach " * 8, "zzz 🙂 unknowable", "&amp;lt;b&gt; “quoted”", "x" * 120]


def bert():
    out = FIXTURES / "tokenizer_bert"
    out.mkdir(exist_ok=True)
    letters = list(string.ascii_lowercase + string.digits)
    # The ids of the special tokens are BERT's: 0, 100, 101, 102, 103.
    vocab = ["[PAD]"] + [f"[unused{i}]" for i in range(99)] + ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab += list("!\"#&'(),-./:;<>?[]_") + ["京"] + letters + [f"##{c}" for c in letters] + [w for w in WORDS if len(w) > 1]
    (out / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    return out


def siglip():
    out = FIXTURES / "tokenizer_siglip"
    out.mkdir(exist_ok=True)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [("▁" + w, -3.0 - i / 10) for i, w in enumerate(WORDS)]
    pieces += [(c, -8.0 - i / 10) for i, c in enumerate(string.ascii_lowercase + string.digits)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(["</s>", "<unk>"])
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    # SigLIP pads by the end token.
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": {"content": "</s>"}, "eos_token": "</s>", "unk_token": "<unk>"}
    (out / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    return out


def gemma():
    """SigLIP 2's: byte-pair encoding over spaces written as ▁, bytes for what is unknown, an end token, no start token."""
    out = FIXTURES / "tokenizer_gemma"
    out.mkdir(exist_ok=True)
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    pieces = specials + [f"<0x{byte:02X}>" for byte in range(256)] + list(string.ascii_letters + string.digits + ",.!▁")
    merges = []
    for word in WORDS:
        for text in (word, "▁" + word):
            for cut in range(2, len(text) + 1):
                pair = (text[: cut - 1], text[cut - 1])
                if pair not in merges:
                    merges.append(pair)
                    if "".join(pair) not in pieces:
                        pieces.append("".join(pair))
    model = models.BPE(dict(zip(pieces, range(len(pieces)))), merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", pair="$A <eos> $B <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.add_special_tokens(specials)
    tokenizer.save(str(out / "tokenizer.json"), pretty=False)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "add_eos_token": True, "bos_token": "<bos>",
              "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>", "padding_side": "right"}
    (out / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    return out


def wrapper(tokenizer, **options):
    """open_clip's class around a tokenizer that is already loaded."""
    from unittest.mock import patch

    with patch("transformers.AutoTokenizer.from_pretrained", return_value=tokenizer):
        return HFTokenizer("local", **options)


if __name__ == "__main__":
    from transformers import PreTrainedTokenizerFast

    bert_tokenizer = BertTokenizerFast(vocab=str(bert() / "vocab.txt"), do_lower_case=True)
    assert bert_tokenizer.convert_tokens_to_ids("京") < len(bert_tokenizer), "the vocabulary was read"
    clips_tokenizer = BertTokenizerFast(
        vocab=str(FIXTURES / "tokenizer_bert/vocab.txt"), do_lower_case=True, bos_token="[unused0]", eos_token="[unused1]")
    siglip_tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(siglip() / "tokenizer.json"), pad_token="</s>", eos_token="</s>", unk_token="<unk>")
    gemma_tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(gemma() / "tokenizer.json"), pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>")
    cases = {
        "bert": wrapper(bert_tokenizer, context_length=16),
        "clipa": wrapper(bert_tokenizer, context_length=16, strip_sep_token=True),
        "clips": wrapper(clips_tokenizer, context_length=20, tokenizer_mode="clips"),
        "siglip": wrapper(siglip_tokenizer, context_length=24, clean="canonicalize"),
        "siglip2": wrapper(gemma_tokenizer, context_length=24, clean="canonicalize"),
    }
    rows = []
    for case, tokenizer in cases.items():
        for text in TEXTS:
            row = tokenizer([text])[0].tolist()
            rows.append([case, text, tokenizer.context_length, row])
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (FIXTURES / "tokenizer_hf.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(len(rows), "rows")
