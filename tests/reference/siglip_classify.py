"""Probabilities of `classify` against transformers' zero-shot-image-classification pipeline, for a SiglipModel.

From the root of the repository, with the command built before (cargo build --release --example classify):

    python tests/reference/siglip_classify.py --classify target/release/examples/classify --photos PHOTOS --work FOLDER

Writes a Hugging Face directory with all files of a release (SentencePiece model, tokenizer.json, processor) and random
weights at the resolution of SigLIP's base model, with fewer blocks. Scale and bias are those that spread the
probabilities. Compares 20 photos and 20 labels: as PNG files, which all decoders read alike, and as they are, with the
pipeline's image processor that uses Pillow and with its default, which uses torchvision. The labels have capitals,
punctuation and accents, but neither underscores, which transformers deletes and we, as SigLIP's own code, turn into
spaces, nor anything that ftfy would repair.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import sentencepiece
import torch
import transformers
from big_models import photos, randomize
from PIL import Image
from sentencepiece.sentencepiece_model_pb2 import ModelProto
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch.nn.functional import normalize
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer, pipeline
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

CORPUS = Path("tests/fixtures/tokenizer_clip.jsonl.gz")
PIECES, COUNT, TEMPLATE = 2000, 20, "This is a photo of {}."
LABELS = [
    "a tabby cat", "two dogs", "the Eiffel Tower", "a bowl of soup", "an old steam engine", "a goldfish!", "café tables",
    "a child's red bicycle", "mountains at dawn", "a violin, or a viola", "street-lamps", "a flock of geese", "a fish",
    "a spider's web", "a crowd of people", "an EMPTY room", "snow & ice", "a bird (flying)", "a close-up: flowers", "",
]
PILLOW, TORCHVISION = ("Pillow", SiglipImageProcessorPil), ("torchvision", SiglipImageProcessor)


def tokenizer(out):
    """`spiece.model` with SigLIP's special ids, and the `tokenizer.json` that says the same."""
    with gzip.open(CORPUS, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)[0] for line in lines] + LABELS
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.lower() for text in texts), model_prefix=str(out / "spiece"), vocab_size=PIECES,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, character_coverage=0.98, minloglevel=2, num_threads=1,
    )
    (out / "spiece.vocab").unlink()
    # As released: SigLIP was trained without a mask, and sees the padding.
    slow = SiglipTokenizer(str(out / "spiece.model"), model_input_names=["input_ids"])
    slow.save_pretrained(out)
    model = slow.sp_model
    pieces = [(model.id_to_piece(i), model.get_score(i)) for i in range(model.get_piece_size())]
    fast = Tokenizer(models.Unigram(pieces, unk_id=2))
    proto = ModelProto.FromString((out / "spiece.model").read_bytes())
    fast.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    fast.pre_tokenizer = pre_tokenizers.Metaspace()
    fast.decoder = decoders.Metaspace()
    fast.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast.add_special_tokens(["</s>", "<unk>"])
    fast.save(str(out / "tokenizer.json"), pretty=False)
    return slow


def directory(out, paths):
    words = tokenizer(out)
    shape = dict(hidden_size=192, intermediate_size=768, num_hidden_layers=3, num_attention_heads=3)
    tokens = dict(bos_token_id=None, eos_token_id=1, pad_token_id=1)
    config = SiglipConfig(
        text_config=dict(vocab_size=PIECES, max_position_embeddings=64, **tokens, **shape), vision_config=shape
    )
    model = SiglipModel(config).eval()
    randomize(model, 0)
    processor = SiglipImageProcessorPil()
    pixels = processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
    texts = words([TEMPLATE.format(label) for label in LABELS], padding="max_length", max_length=64, return_tensors="pt")
    with torch.inference_mode():
        image = normalize(model.get_image_features(**pixels).pooler_output)
        text = normalize(model.get_text_features(input_ids=texts.input_ids).pooler_output)
        cosines = image @ text.T
        scale = 2 / cosines.std()
        model.logit_scale.fill_(scale.log().item())
        model.logit_bias.fill_(-(scale * cosines.mean()).item())
    model.save_pretrained(out)
    SiglipImageProcessor().save_pretrained(out)
    apart = [f"{(rows @ rows.T).min():.4f}" for rows in (image, text)]
    print(f"scale {scale:.1f}, least cosine of two photos {apart[0]}, of two labels {apart[1]}")


def ours(command, model, paths):
    arguments = ["--model", model, "--template", TEMPLATE, "--json", "--images", *paths, "--labels", *LABELS]
    done = subprocess.run([command, *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command} ended with {done.returncode}: {done.stderr}")
    rows = (json.loads(line)["scores"] for line in done.stdout.splitlines())
    return [{score["label"]: score["probability"] for score in row} for row in rows]


def theirs(model, paths, processor):
    run = pipeline("zero-shot-image-classification", model=str(model), image_processor=processor)
    rows = run([str(path) for path in paths], candidate_labels=LABELS, hypothesis_template=TEMPLATE)
    return [{score["label"]: score["score"] for score in row} for row in rows]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classify", type=Path, required=True, help="the built command")
    parser.add_argument("--photos", type=Path, required=True, help="folder of images")
    parser.add_argument("--work", type=Path, required=True, help="folder for the model, made anew")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    shutil.rmtree(arguments.work, ignore_errors=True)
    arguments.work.mkdir(parents=True)
    found = photos(arguments.photos, None)
    paths = [path.resolve() for path in found[:: len(found) // COUNT][:COUNT]]
    directory(arguments.work, paths)
    lossless = arguments.work / "png"
    lossless.mkdir()
    for index, path in enumerate(paths):
        Image.open(path).convert("RGB").save(lossless / f"{index:02}.png")
    copies = sorted(lossless.iterdir())
    print("| files | the pipeline's images by | largest difference | mean | probabilities | same first label |")
    print("|---|---|---|---|---|---|")
    good = True
    for files, kind, (name, processor), limit in [
        (copies, "PNG", PILLOW, 2e-5), (paths, "JPEG", PILLOW, 5e-3), (paths, "JPEG", TORCHVISION, 1e-2)
    ]:
        got = ours(arguments.classify.resolve(), arguments.work, files)
        wanted = theirs(arguments.work, files, processor.from_pretrained(arguments.work))
        assert len(got) == len(wanted) == len(files) == COUNT
        pairs = [(a[label], b[label]) for a, b in zip(got, wanted) for label in LABELS]
        off = [abs(a - b) for a, b in pairs]
        span = f"{min(b for _, b in pairs):.4f} to {max(b for _, b in pairs):.4f}"
        same = sum(max(a, key=a.get) == max(b, key=b.get) for a, b in zip(got, wanted))
        print(f"| {kind} | {name} | {max(off):.1e} | {sum(off) / len(off):.1e} | {span} | {same} of {COUNT} |")
        good &= max(off) <= limit
    sys.exit(not good)


if __name__ == "__main__":
    main()
