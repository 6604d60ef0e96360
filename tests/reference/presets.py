"""The presets of open_clip's architectures, and what open_clip builds of them.

Run from the root of the repository: python tests/reference/presets.py
Writes clip/src/presets/NAME.json and clip/src/presets/open_clip.rs (the list of names) for every `model_config` of open_clip
whose towers are built here, and tests/fixtures/open_clip_models.json: per name the configuration as open_clip has it, the
number of tensors and values (running statistics included), and the towers' activations.

Beside the architecture a preset has the preprocessing of its family's released weights, and SigLIP's the paper's initial
scale.
"""

import json
import math
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP

PRESETS = Path("clip/src/presets")
FIXTURE = Path("tests/fixtures/open_clip_models.json")

SIGLIP = dict(mean=[0.5] * 3, std=[0.5] * 3, interpolation="bicubic", resize_mode="squash")
CLIPA = dict(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], interpolation="bilinear", resize_mode="squash")


def built_here(config):
    vision, text = config["vision_cfg"], config["text_cfg"]
    timm = vision.get("timm_model_name")
    return (
        "multimodal_cfg" not in config
        and "hf_model_name" not in text
        and (timm is None or "siglip" in timm or ("eva02" in timm and "enormous" not in timm))
    )


def activation(module):
    kind = type(module).__name__
    if kind in ("GELU", "GELUTanh"):
        return "gelu_tanh" if kind == "GELUTanh" or module.approximate == "tanh" else "gelu"
    return dict(QuickGELU="quick_gelu", SiLU="silu", ReLU="relu")[kind]


def describe(config):
    """What open_clip builds, without memory for it."""
    config = json.loads(json.dumps(config))
    custom = config.pop("custom_text", False)
    with torch.device("meta"):
        model = (CustomTextCLIP if custom else CLIP)(**config)
    # The running statistics of batch norms are values of the model as well.
    statistics = [(name, value) for name, value in model.named_buffers() if "running_" in name]
    parameters = list(model.named_parameters()) + statistics
    if custom:
        text = model.text.transformer.resblocks[0].mlp.gelu
    else:
        text = model.transformer.resblocks[0].mlp.gelu
    visual = model.visual
    if hasattr(visual, "trunk"):
        vision = visual.trunk.blocks[0].mlp.act
    elif hasattr(visual, "attnpool"):
        vision = visual.act1
    else:
        vision = visual.transformer.resblocks[0].mlp.gelu
    return dict(
        tensors=len(parameters),
        parameters=sum(p.numel() for _, p in parameters),
        vision=activation(vision),
        text=activation(text),
    )


def main():
    names, fixture = [], {}
    for path in sorted((Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        config = json.loads(path.read_text())
        if not built_here(config):
            continue
        name = path.stem
        names.append(name)
        fixture[name] = dict(config=config) | describe(config)
        preset = dict(config)
        if "SigLIP" in name:
            preset["init_logit_scale"] = math.log(10)
            preset = dict(model_cfg=preset, preprocess_cfg=SIGLIP)
        elif "CLIPA" in name:
            preset = dict(model_cfg=preset, preprocess_cfg=CLIPA)
        (PRESETS / f"{name}.json").write_text(json.dumps(preset, indent=2) + "\n")
        print(name, fixture[name]["parameters"])
    lines = ",\n    ".join(f'"{name}"' for name in names)
    (PRESETS / "open_clip.rs").write_text(f"// Written by tests/reference/presets.py.\npresets![\n    {lines},\n]\n")
    entries = ",\n".join(f'"{name}": {json.dumps(fixture[name], separators=(",", ":"))}' for name in names)
    FIXTURE.write_text("{\n" + entries + "\n}\n")
    print(len(names), "presets")


if __name__ == "__main__":
    main()
