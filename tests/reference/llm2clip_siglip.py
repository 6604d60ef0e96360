"""A small model as the release's code for SigLIP 2 saves it: timm's tower under `visual.trunk.`, a live Llama under `text.text.`, and
behind it an adapter that does not normalise. The names are those of the code; nobody could look into the released file.

Run from the root of the repository, after llm2clip.py: python tests/reference/llm2clip_siglip.py
Writes tests/fixtures/llm2clip/siglip.{pt,json,safetensors}: the model, its configuration, and embeddings of images and texts.
"""

import json

import timm
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import LlamaModel

from llm2clip import CC, OUT, Adapter, pooled, save, tokenizer

TOWER = "vit_so400m_patch16_siglip_256"
SHAPE = dict(img_size=24, patch_size=8, depth=2, num_heads=2, embed_dim=12)
CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 24, "timm_model_name": TOWER, "timm_pool": "map", "timm_proj": "none",
                   "timm_model_kwargs": SHAPE},
    "text_cfg": {"context_length": 64, "vocab_size": 256000, "width": 12, "heads": 2, "layers": 2},
    "custom_text": True,
}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual, self.text = nn.Module(), nn.Module()
        self.visual.trunk = timm.create_model(TOWER, num_classes=0, global_pool="map", **SHAPE)
        self.text.text_proj = Adapter(32, 12)
        self.logit_scale = nn.Parameter(torch.tensor(3.0))


def main():
    torch.manual_seed(7)
    model = Model().eval()
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    llm = LlamaModel.from_pretrained(CC, dtype=torch.float32).eval()
    state = model.state_dict() | {f"text.text.{name}": value for name, value in llm.state_dict().items() if "norm" in name}
    torch.save(state, OUT / "siglip.pt")
    half = [0.5, 0.5, 0.5]
    preprocess = {"size": [24, 24], "mode": "RGB", "mean": half, "std": half, "resize_mode": "squash"}
    (OUT / "siglip.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess}, indent=1) + "\n")
    images = torch.randint(0, 256, (8, 24, 24, 3), dtype=torch.uint8)
    texts = json.loads((OUT / "texts.json").read_text())
    with torch.no_grad():
        vectors = pooled(llm, tokenizer(), [("", text) for text in texts])
        image = model.visual.trunk(((images / 255 - 0.5) / 0.5).permute(0, 3, 1, 2))
        text = model.text.text_proj.text_adaptor(vectors)
    save({"images": images, "image": F.normalize(image, dim=-1), "text": F.normalize(text, dim=-1)}, "siglip")


main()
