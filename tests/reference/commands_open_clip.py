"""Features that open_clip computes with a model directory.

python tests/reference/commands_open_clip.py MODEL_DIRECTORY IMAGE TEXTS OUT
OUT: a safetensors file with `pixels`, `image_features`, `text_features` (not normalized) and `logit_scale`.
"""

import sys

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file


def main(directory, image, texts, out):
    name = f"local-dir:{directory}"
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval()
    pixels = transform(Image.open(image)).unsqueeze(0)
    lines = open(texts, encoding="utf-8", newline="\n").read().removesuffix("\n").split("\n")
    ids = open_clip.get_tokenizer(name)(lines)
    with torch.no_grad():
        features = {
            "image_features": model.encode_image(pixels),
            "text_features": model.encode_text(ids),
            "logit_scale": model.logit_scale.exp().reshape(1),
        }
    save_file({"pixels": pixels} | features, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
