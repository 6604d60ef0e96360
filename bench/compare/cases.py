"""What is measured, and the command by which each side does it."""

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SIDES = {
    "flex": "clip-burn, flex",
    "tch": "clip-burn, tch",
    "open_clip": "open_clip, PyTorch",
    "transformers": "transformers",
    "candle": "candle",
}
SAME_CODE = "no backend takes part: the figure of flex is this one's, too"
CANDLE = "candle-transformers has no such part"


@dataclass(eq=False)
class Case:
    """One row of the table."""

    work: str
    about: str
    items: int = 1
    unit: str = "calls"
    model: str = ""
    batch: int = 1
    precision: str = "f32"
    reference: str = "open_clip"  # the side that ratios are taken to
    threads: int = 0  # 0: as many as asked for
    sides: list = field(default_factory=lambda: list(SIDES))
    lacks: dict = field(default_factory=dict)  # side → why it does not take part
    agrees: str = ""  # what a side's answer must have in common with the reference's

    @property
    def program(self):
        """None where a process answers turn by turn; else the example that is run once for each turn."""
        return {"zero_shot": "eval", "generate": "generate"}.get(self.work)


def cases(o):
    """All rows; tiny ones with --quick."""
    suffix = "-quickgelu" if o.activation == "quick_gelu" else ""
    base = "scenes" if o.quick else f"ViT-B-32{suffix}"
    models = [base] if o.quick else [f"{name}{suffix}" for name in ("ViT-B-32", "ViT-B-16", "ViT-L-14")]
    found = []
    for model in models:
        for batch in [2] if o.quick else o.batches:
            found.append(Case("encode_image", f"{model} batch {batch}", batch, "images", model, batch, agrees="features"))
    for batch in [2] if o.quick else (1, 32):
        found.append(Case("encode_text", f"{base} batch {batch}", batch, "texts", base, batch, agrees="features"))
    no_gradient = {"candle": "candle-nn's layer norm has no gradient, so its CLIP cannot be trained"}
    trained = [("scenes", 8)] if o.quick else [(base, 16), ("scenes", 128)]
    for model, batch in trained:
        found.append(Case("train", f"{model} batch {batch}", batch, "pairs", model, batch, lacks=no_gradient, agrees="losses"))
    no_bf16 = {"candle": "candle multiplies no bf16 on a CPU"}
    for batch in [2] if o.quick else (1, 32):
        found.append(Case("encode_image", f"{base} bf16 batch {batch}", batch, "images", base, batch, "bf16", lacks=no_bf16,
                          agrees="features"))
    found.append(Case("preprocess", "decode + resize + crop + normalise on one core", 0, "photos", threads=1,
                      lacks={"tch": "decoding and resizing are the same code as on flex", "candle": CANDLE}, agrees="mean"))
    found.append(Case("tokenize", f"{o.captions} captions", o.captions, "captions", lacks={"tch": SAME_CODE}, agrees="fingerprint"))
    found.append(Case("recall", f"recall@5 both ways of {o.rows[0]} texts × {o.rows[1]} images", 1, "runs", agrees="recall",
                      lacks={"tch": SAME_CODE, "transformers": "transformers has no retrieval metrics", "candle": CANDLE}))
    found.append(Case("zero_shot", f"{base} on photos with 8 templates from start to end", 1, "runs", base, agrees="acc1",
                      lacks={"transformers": "transformers has no zero-shot evaluation of a data set", "candle": CANDLE}))
    for batch in [1] if o.quick else (1, 32):
        found.append(Case("generate", f"Llama{'' if o.quick else ' of 110 M'} batch {batch}", batch, "tokens", batch=batch,
                          reference="transformers", lacks={"open_clip": "open_clip has no Llama", "candle": "candle's Llama is not compared"}))
    for case in found:
        case.threads = case.threads or o.threads
    # Those that share a work stand together.
    order = list(dict.fromkeys(case.work for case in found))
    return sorted(found, key=lambda case: order.index(case.work))


def chosen(found, only):
    """Those that `--only` names: by their work, by their whole name, or by a part of it."""
    kept = []
    for word in only.split(","):
        names = {case: f"{case.work}: {case.about}" for case in found}
        exact = [case for case, name in names.items() if word in (case.work, name, case.about)]
        kept += exact or [case for case, name in names.items() if word in name]
    return [case for case in found if case in kept]


def needs(cases, o):
    """What make.py must have made for these."""
    works = {case.work for case in cases}
    models = {case.model for case in cases if case.model}
    arguments = ["--models", *sorted(models)] if models else []
    if "zero_shot" in works and o.photos.is_dir():
        arguments += ["--zero-shot", next(case.model for case in cases if case.work == "zero_shot")]
    if "tokenize" in works:
        arguments += ["--captions", str(o.captions)]
    if "generate" in works:
        arguments += ["--llama", "tiny" if o.quick else "full"]
    if works & {"zero_shot", "preprocess"} and o.photos.is_dir():
        arguments += ["--photos", str(o.photos), "--limit", str(o.limit)]
    return arguments


def shown(path):
    """As seen from the repository, where it lies in it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


class NotHere(Exception):
    """Why a side does not take part in a case."""


def command(case, side, o):
    """Arguments and environment of the process.

    # Errors: `NotHere` with the reason.
    """
    if side in case.lacks:
        raise NotHere(case.lacks[side])
    if case.work in ("preprocess", "zero_shot") and not o.photos.is_dir():
        raise NotHere(f"no photos in {shown(o.photos)}; give --photos a folder with one sub-folder for each class")
    for path in required(case, o):
        if not path.exists():
            raise NotHere(f"no {shown(path)}: {o.not_made or 'make.py has not made it'}")
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="true")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
        environment[name] = str(case.threads)
    environment.pop("MIMALLOC_PURGE_DELAY", None)
    maker = {"flex": ours, "tch": ours, "candle": candle}.get(side, peer)
    return [str(word) for word in maker(case, side, o, environment)], environment


def required(case, o):
    """What make.py makes for a case."""
    found = [o.data / case.model / name for name in ("model.safetensors", "tokenizer.json")] if case.model else []
    if case.work == "zero_shot":
        found = [o.data / f"{case.model}-open_clip/open_clip_config.json", photos(o) / "classnames.txt"]
    found += [llama(o) / "tokenizer.model"] if case.work == "generate" else []
    found += [o.data / "tokenizer/tokenizer.json"] if case.work == "tokenize" else []
    return found + [path for path in inputs(case, o) if isinstance(path, Path)]


def ours(case, side, o, environment):
    folder = o.bin_tch if side == "tch" else o.bin
    if folder is None:
        raise NotHere("no --bin-tch: a build with --features tch")
    program = folder / (case.program or "compare")
    if not program.is_file():
        raise NotHere(f"no {shown(program)}: build the examples, or give --bin{'-tch' if side == 'tch' else ''}")
    if side == "tch" and o.libtorch:
        paths = [str(o.libtorch / "lib"), environment.get("LD_LIBRARY_PATH", "")]
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    backend = ["--backend", side]
    if case.work == "zero_shot":
        return [program, "zero-shot", *backend, "--model", o.data / f"{case.model}-open_clip", "--dataset", "wds/photos", "--root",
                photos(o), "--output", result(o, side), "--overwrite", "--batch-size", 64]
    if case.work == "generate":
        return [program, *backend, "--llm", llama(o), "--batch-sizes", case.batch]
    arguments = [program, "--work", case.work.replace("_", "-"), *backend, "--precision", case.precision, "--seconds", o.seconds]
    if case.model:
        arguments += ["--model", o.data / case.model, "--batch", case.batch]
    return arguments + inputs(case, o)


def peer(case, side, o, environment):
    if case.work == "zero_shot":
        return [o.python, HERE / "zero_shot.py", "eval", "--model", f"local-dir:{o.data / case.model}-open_clip", "--pretrained", "", "--dataset",
                "wds/photos", "--dataset_root", photos(o), "--output", result(o, side), "--no_amp", "--num_workers", case.threads,
                "--batch_size", 64, "--quiet"]
    if case.work == "generate":
        return [o.python, ROOT / "bench/generate/peer.py", "run", llama(o), "f32", case.batch]
    arguments = [o.python, HERE / "peers.py", side, case.work, "--data", o.data, "--precision", case.precision, "--seconds", o.seconds,
                 "--threads", case.threads]
    if case.model:
        arguments += ["--model", case.model, "--batch", case.batch]
    return arguments + inputs(case, o)


def candle(case, side, o, environment):
    if not o.candle.is_file():
        raise NotHere(f"no {shown(o.candle)}: build bench/compare/candle, or give --candle")
    arguments = [o.candle, case.work, "--data", o.data, "--seconds", o.seconds]
    if case.model:
        arguments += ["--model", case.model, "--batch", case.batch]
    return arguments + inputs(case, o)


def inputs(case, o):
    if case.work == "preprocess":
        return ["--images", photos(o) / "images.txt"]
    if case.work == "tokenize":
        return ["--texts", o.data / f"captions-{o.captions}.txt"]
    return ["--rows", *o.rows] if case.work == "recall" else []


def photos(o):
    return o.data / f"photos-{o.limit or 'all'}"


def llama(o):
    return o.data / "llama"


def result(o, side):
    return o.data / f"zero_shot-{side}.json"


def generated(said):
    """Tokens per second and peak memory in MiB out of what either program of bench/generate prints."""
    found = re.search(r"([\d.]+) tokens/s; peak ([\d.]+) MiB", said)
    if not found:
        raise NotHere(f"no rate in its output: {said.strip()[-200:]}")
    return float(found[1]), float(found[2])


def default_candle():
    target = os.environ.get("CARGO_TARGET_DIR")
    return Path(target or HERE / "candle/target") / "release/compare-candle"


def default_python():
    return Path(sys.executable)
