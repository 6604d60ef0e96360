#!/usr/bin/env python3
"""Peak memory of LLM2CLIP's stages with a language model of a gigabyte: stage 1 holds it once, stage 2 with a store not at all.

    python bench/llm2clip/memory.py OUT [--bin target/debug/examples] [--backend flex]

Needs PyTorch and safetensors to make the language model (random, 0.5 billion weights in bf16, 1.0 GB). Memory is read from /proc:
the most that the process had of its own (anonymous pages), and with the pages of mapped files, which the system takes back.
"""

import argparse
import json
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKENIZER = ROOT / "tests/fixtures/llm/encoder/cc"
SHAPE = dict(hidden_size=1536, intermediate_size=4096, num_hidden_layers=18, num_attention_heads=12, num_key_value_heads=12,
             head_dim=128)


def language_model(folder):
    import torch
    from safetensors.torch import save_file

    if (folder / "config.json").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((TOKENIZER / "config.json").read_text()) | SHAPE
    width, inside = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    shapes = {"embed_tokens.weight": (config["vocab_size"], width), "norm.weight": (width,)}
    for i in range(SHAPE["num_hidden_layers"]):
        parts = {name: (width, width) for name in [f"self_attn.{letter}_proj" for letter in "qkvo"]}
        parts |= {"mlp.gate_proj": (inside, width), "mlp.up_proj": (inside, width), "mlp.down_proj": (width, inside)}
        parts |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
        shapes |= {f"layers.{i}.{name}.weight": shape for name, shape in parts.items()}
    torch.manual_seed(0)
    made = {n: (torch.ones(s) if len(s) == 1 else 0.02 * torch.randn(s)).bfloat16() for n, s in shapes.items()}
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TOKENIZER / name, folder)
    (folder / "config.json").write_text(json.dumps(config))


def peak(command, log):
    """MiB of anonymous memory at most, and of all resident memory at most."""
    with log.open("w") as output:
        process = subprocess.Popen([str(word) for word in command], cwd=ROOT, stdout=output, stderr=output)
        own = whole = 0
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
            if "RssAnon" in fields:
                own = max(own, int(fields["RssAnon"].split()[0]) // 1024)
                whole = max(whole, int(fields["VmHWM"].split()[0]) // 1024)
            time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed, see {log}")
    return own, whole


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("out", type=Path)
    flags.add_argument("--bin", type=Path, default=ROOT / "target/debug/examples")
    flags.add_argument("--backend", default="flex")
    o = flags.parse_args()
    out, programs = o.out.absolute(), o.bin.absolute()
    language_model(out / "llm")
    size = (out / "llm/model.safetensors").stat().st_size // 2**20
    print(f"the language model: {size} MiB in bf16\n\n| | own, MiB | with mapped files, MiB |\n|---|---|---|", flush=True)

    def measure(title, *command):
        shutil.rmtree(out / "run", ignore_errors=True)
        own, whole = peak([programs / command[0], *command[1:], "--backend", o.backend], out / "log.txt")
        print(f"| {title} | {own} | {whole} |", flush=True)

    bf16 = ["--set=contrastive.model.precision=bf16", "--set=contrastive.model.weights=bf16"]
    stage1 = [*bf16, f"--set=contrastive.model.llm={out / 'llm'}", f"--set=contrastive.run.out={out / 'run'}",
              "--set=contrastive.run.steps=2", "--set=contrastive.schedule.warmup=0", "--set=contrastive.run.replay=true",
              "--set=contrastive.validation.scenes.validation_size=2"]
    for batch in (1, 4): # what is above the model in the first is no second copy of it; the second shows activations
        measure(f"stage 1, two steps of {batch}, blocks replayed, and the merge", "tune_llm", "--recipe",
                ROOT / "llm2clip/recipes/stage1_scenes.toml", "--stages", "contrastive", *stage1,
                f"--set=contrastive.data.loader.batch_size={batch}")

    shapes = "--image-size 48 --shapes 6 --colours 6 --max-objects 2".split()
    run = lambda *command: subprocess.run([str(programs / command[0]), *map(str, command[1:])], check=True, cwd=ROOT,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    shutil.rmtree(out / "data", ignore_errors=True)
    run("scenes", "--format", "webdataset", "--split", "train", "--images", "24", "--out", out / "data/train", *shapes)
    run("scenes", "--format", "karpathy", "--split", "test", "--images", "8", "--out", out / "data/test", *shapes)
    annotations = json.loads((out / "data/test/dataset_scenes.json").read_text())
    texts = [sentence["raw"] for image in annotations["images"] for sentence in image["sentences"]]
    (out / "texts.txt").write_text("\n".join(dict.fromkeys(texts)) + "\n")
    stores = [out / "data/store", out / "data/texts"]
    shards = sorted((out / "data/train").glob("*.tar"))
    names = f"{out / 'data/train'}/{{{shards[0].stem}..{shards[-1].stem}}}.tar"
    measure("vectors of 48 captions", "embed_captions", "--llm", out / "llm", "--precision", "bf16", "--input", names,
            "--fields", "web,synthetic", "--out", stores[0])
    measure("vectors of the captions to validate with", "embed_captions", "--llm", out / "llm", "--precision", "bf16", "--input",
            out / "texts.txt", "--out", stores[1])

    recipe = ROOT / "llm2clip/recipes/stage2_scenes.toml"
    source = f'[{{ kind = "webdataset", shards = "{names}", json_fields = [{{ field = "synthetic", kind = "synthetic" }}] }}]'
    retrieval = f'[{{ name = "test", format = "karpathy", split = "test", images = "{out}/data/test/images", ' \
                f'annotations = "{out}/data/test/dataset_scenes.json" }}]'
    stage2 = ["train", "--recipe", recipe, f"--set=run.out={out / 'run'}", "--set=run.steps=3", "--set=schedule.warmup=0",
              "--set=data.loader.batch_size=8", "--set=data.loader.workers=1", f"--set=data.sources={source}"]
    validated = f"--set=validation.retrieval={retrieval}"
    named = f"--set=method.llm={out / 'llm'}"
    both = '["{}", "{}"]'.format(*stores)
    unnamed = without_llm(recipe, out)
    stage2_unnamed = ["train", "--recipe", unnamed, *stage2[3:]]
    measure("stage 2, a store", *stage2_unnamed, f'--set=method.stores=["{stores[0]}"]')
    measure("stage 2, a store, the language model named", *stage2, named, f'--set=method.stores=["{stores[0]}"]')
    measure("stage 2, stores for training and validation", *stage2_unnamed, f"--set=method.stores={both}", validated)
    measure("stage 2, a store, validated by the language model", *stage2, named, f'--set=method.stores=["{stores[0]}"]', validated,
            "--set=model.precision=bf16")


def without_llm(recipe, out):
    """The recipe without its `llm`: an override cannot take a field away."""
    path = out / "stage2.toml"
    path.write_text("\n".join(line for line in recipe.read_text().splitlines() if not line.startswith("llm = ")))
    return path


if __name__ == "__main__":
    main()
