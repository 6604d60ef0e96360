"""CLIPS on the built-in world: the inverse effect of shorter captions, and what each part of the method brings.

    bench/clips/compare.py OUT [--bin target/debug/examples] [--backend flex] [--steps 200] [--batch 96] [--seeds 3] [--jobs 2]
                               [--parts ablation,budgets]

Writes OUT/ARM_SEED/ (a run each; those that are there are not run again), OUT/budgets.svg and prints the tables. Every run sees
the same images, crops and steps with the same seed; only its texts differ. The programs `train`, `eval` and `scenes` must be built.

Budgets. A caption of the paper's study has 49 words, about 65 tokens, and budgets of 128, 64, 32 and 16: twice the mean, the
mean, a half and a quarter. Whole synthetic captions here have 21 to 69 tokens, 45 on average. So the budgets are 72 (nothing is
cut), 44, 22 and 11, in a context of 75, which holds the longest with its three special tokens.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parents[2]
WORLD = ["--image-size", "48", "--shapes", "6", "--colours", "6", "--max-objects", "2", "--images", "480"]
BUDGETS = [72, 44, 22, 11]
STRATEGIES = ["truncation", "random-mask", "block-mask", "sub-caption-mask"]
COLUMNS = {
    "zero-shot, web words": "web_words_acc1",
    "synonyms": "synonyms_acc1",
    "text → image R@1": "captions_image_retrieval_recall@1",
    "R@10": "captions_image_retrieval_recall@10",
    "image → text R@1": "captions_text_retrieval_recall@1",
    "R@10 ": "captions_text_retrieval_recall@10",
}
ABLATION = {
    "web": ("web captions", 'texts = ["web"]'),
    "web-full": ("web + whole synthetic", 'texts = ["web", "full"]'),
    "web-partial": ("web + partial synthetic", 'texts = ["web", "partial"]'),
    "captioner": ("… + captioner", 'texts = ["web", "partial"], captioner = CAPTIONER'),
    "autoregressive": ("… + captioner that reads its words", 'texts = ["web", "partial"], captioner = AUTOREGRESSIVE'),
}
CAPTIONER = "{ width = 128, layers = 2, heads = 4, queries = 72 }"
AUTOREGRESSIVE = '{ width = 128, layers = 2, heads = 4, queries = 72, decoder = "autoregressive" }'


def budget_arm(strategy, budget):
    """The longest budget cuts nothing, so it is the same run for every strategy."""
    return "whole" if budget == BUDGETS[0] else f"{strategy}-{budget}"


def arms(parts):
    """Name → ([method] as TOML, context)."""
    found = {}
    if "ablation" in parts:
        for name, (_, method) in ABLATION.items():
            method = method.replace("CAPTIONER", CAPTIONER).replace("AUTOREGRESSIVE", AUTOREGRESSIVE)
            # A whole caption needs a longer context, and then all arms get it.
            found[name] = (f'{{ name = "clips", {method} }}', 75)
    if "budgets" in parts:
        for budget in BUDGETS:
            for strategy in STRATEGIES:
                reduction = f'reduction = {{ strategy = "{strategy}", budget = {budget} }}'
                method = f'{{ name = "clips", texts = ["partial"], {reduction} }}'
                found.setdefault(budget_arm(strategy, budget), (method, 75))
    return found


def start(arguments, name, seed, method, context):
    out = arguments.out
    run = out / f"{name}_{seed}"
    classes = f'dataset = "folder", root = "{out}/classes/images", templates = "{out}/classes/templates.txt"'
    settings = {
        "run.out": run, "run.seed": seed, "run.steps": arguments.steps, "schedule.warmup": 20, "log.progress": "false",
        "data.loader.batch_size": arguments.batch, "data.loader.workers": 1, "model.context_length": context, "method": method,
        "validation.zero_shot": f'[{{ name = "web_words", classnames = "{out}/classes/classnames_web.txt", {classes} }}, '
                                f'{{ name = "synonyms", classnames = "{out}/classes/classnames.txt", {classes} }}]',
        "validation.retrieval": f'[{{ name = "captions", format = "karpathy", split = "test", images = "{out}/retrieval/images", '
                                f'annotations = "{out}/retrieval/dataset_scenes.json" }}]',
    }
    command = [arguments.bin / "train", "--recipe", HERE / "clips/recipes/scenes.toml", "--backend", arguments.backend, "--resume", "latest"]
    command += [f"--set={key}={value}" for key, value in settings.items()]
    # Two runs at once on two cores: each on one.
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    log = (out / f"{name}_{seed}.log").open("w")
    return subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=environment, cwd=HERE)


def train_all(arguments):
    """Seed by seed, so that a table can be made at any time."""
    todo = [
        (name, seed, *arm)
        for seed in range(arguments.seeds)
        for name, arm in arms(arguments.parts).items()
        if not (arguments.out / f"{name}_{seed}" / "report.html").is_file()
    ]
    running = {}
    while todo or running:
        while todo and len(running) < arguments.jobs:
            name, seed, method, context = todo.pop(0)
            running[start(arguments, name, seed, method, context)] = f"{name}_{seed}"
        time.sleep(1)
        for process in [process for process in running if process.poll() is not None]:
            name = running.pop(process)
            print("done" if process.returncode == 0 else f"FAILED, see {name}.log:", name, flush=True)


def caption_all(arguments):
    """What the captioners say about unseen scenes: with their image, with another one, with none."""
    for seed in range(arguments.seeds):
        for name in ("captioner", "autoregressive"):
            run = arguments.out / f"{name}_{seed}"
            for shown in ("own", "another", "nothing"):
                result = arguments.out / "captions" / f"{name}_{seed}_{shown}.json"
                if result.is_file() or not (run / "report.html").is_file():
                    continue
                result.parent.mkdir(exist_ok=True)
                command = [
                    arguments.bin / "eval", "caption", "--model", run / "model", "--shards", "{00000..00000}.tar",
                    "--images", arguments.out / "shards", "--shown", shown, "--name", "scenes", "--output", result,
                    "--model-name", f"{name} {seed}", "--backend", arguments.backend, "--batch-size", "16",
                ]
                subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)


def last_validation(run):
    try:
        entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    except FileNotFoundError:
        return None
    done = (run / "report.html").is_file()
    found = [entry["values"] for entry in entries if entry["kind"] == "validation"]
    return found[-1] if found and done else None


def spread(values):
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.1f}"


def results(arguments, name):
    """Seed → metrics in percent."""
    found = {seed: last_validation(arguments.out / f"{name}_{seed}") for seed in range(arguments.seeds)}
    return {seed: {m: 100 * v for m, v in r.items()} for seed, r in found.items() if r}


def ablation(arguments):
    print("| texts | seeds | " + " | ".join(COLUMNS) + " |\n|---|---|" + "---|" * len(COLUMNS))
    for name, (title, _) in ABLATION.items():
        found = results(arguments, name)
        if found:
            cells = [spread([result[metric] for result in found.values()]) for metric in COLUMNS.values()]
            print(f"| {title} | {len(found)} | " + " | ".join(cells) + " |")
    print()


def captions(arguments):
    rows = {}
    for path in sorted((arguments.out / "captions").glob("*.json")):
        name, seed, shown = path.stem.rsplit("_", 2)
        rows.setdefault((name, shown), []).append(json.loads(path.read_text())["metrics"])
    if rows:
        print("| decoder | image | seeds | token accuracy | BLEU-4 | CIDEr-D |\n|---|---|---|---|---|---|")
        for (name, shown), found in sorted(rows.items()):
            cells = [spread([100 * r["token_acc"] for r in found]), spread([100 * r["bleu4"] for r in found]),
                     spread([100 * r["cider_d"] for r in found])]
            print(f"| {name} | {shown} | {len(found)} | " + " | ".join(cells) + " |")
        print()


def recall(result):
    """The paper's axis: the mean of both directions; R@10 here, since R@1 among 480 scenes is mostly chance."""
    return (result["captions_image_retrieval_recall@10"] + result["captions_text_retrieval_recall@10"]) / 2


def budgets(arguments):
    whole = results(arguments, "whole")
    if not whole:
        return
    print("Mean of both R@10 less that of the whole caption, seed by seed:\n")
    print("| strategy | seeds | " + " | ".join(map(str, BUDGETS)) + " |\n|---|---|" + "---|" * len(BUDGETS))
    curves = {}
    for strategy in STRATEGIES:
        cells, curve = [], []
        for budget in BUDGETS:
            found = results(arguments, budget_arm(strategy, budget))
            differences = [recall(r) - recall(whole[s]) for s, r in found.items() if s in whole]
            cells.append(spread(differences) if differences else "–")
            if differences:
                curve.append((budget, statistics.mean(differences), statistics.stdev(differences) if len(differences) > 1 else 0.0))
        curves[strategy] = curve
        print(f"| {strategy} | {len(differences)} | " + " | ".join(cells) + " |")
    print(f"\nwhole caption: {spread([recall(r) for r in whole.values()])}\n")
    draw(arguments.out / "budgets.svg", curves)


def draw(path, curves):
    """Budgets from long to short on a logarithmic axis, with standard deviations."""
    import math

    width, height, left, right, top, bottom = 640, 400, 60, 20, 40, 50
    values = [m + s * d for curve in curves.values() for _, m, d in curve for s in (-1, 1)] + [0.0]
    low, high = math.floor(min(values)) - 1, math.ceil(max(values)) + 1
    x = lambda b: left + (math.log(BUDGETS[0]) - math.log(b)) / math.log(BUDGETS[0] / BUDGETS[-1]) * (width - left - right)
    y = lambda v: top + (high - v) / (high - low) * (height - top - bottom)
    colours = ["#475467", "#c4320a", "#17915a", "#175cd3"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>',
             f'<text x="{left}" y="20">Mean of both R@10, less that of whole captions (points), by tokens kept</text>']
    step = max(1, (high - low) // 8)
    for v in range(low, high + 1, step):
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{y(v)}" y2="{y(v)}" stroke="{"#98a2b3" if v == 0 else "#e4e7ec"}"/>')
        parts.append(f'<text x="{left - 8}" y="{y(v) + 4}" text-anchor="end">{v:+d}</text>')
    for budget in BUDGETS:
        parts.append(f'<text x="{x(budget)}" y="{height - bottom + 20}" text-anchor="middle">{budget}</text>')
    for index, (strategy, curve) in enumerate(curves.items()):
        colour, shift = colours[index], 4 * (index - 1.5)
        points = " ".join(f"{x(b) + shift:.1f},{y(m):.1f}" for b, m, _ in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for b, m, d in curve:
            parts.append(f'<line x1="{x(b) + shift:.1f}" x2="{x(b) + shift:.1f}" y1="{y(m - d):.1f}" y2="{y(m + d):.1f}" stroke="{colour}"/>')
            parts.append(f'<circle cx="{x(b) + shift:.1f}" cy="{y(m):.1f}" r="3.5" fill="{colour}"/>')
        parts.append(f'<text x="{left + 12}" y="{height - bottom - 10 - 16 * (len(curves) - 1 - index)}" fill="{colour}">{strategy}</text>')
    path.write_text("\n".join(parts + ["</svg>"]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--bin", type=Path, default=HERE / "target/debug/examples")
    parser.add_argument("--backend", default="flex")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--parts", default="ablation,budgets", type=lambda text: text.split(","))
    parser.add_argument("--table", action="store_true", help="only the tables, of what is there")
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    arguments.bin = arguments.bin.absolute()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if not arguments.table:
        for format, folder, split in (("imagenet", "classes", "test"), ("karpathy", "retrieval", "test"), ("webdataset", "shards", "test")):
            if not (arguments.out / folder).is_dir():
                command = [arguments.bin / "scenes", "--format", format, "--split", split, "--out", arguments.out / folder, *WORLD]
                subprocess.run([str(part) for part in command], check=True)
        train_all(arguments)
        caption_all(arguments)
    ablation(arguments)
    captions(arguments)
    budgets(arguments)


if __name__ == "__main__":
    main()
