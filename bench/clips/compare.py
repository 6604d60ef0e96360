#!/usr/bin/env python3
"""CLIPS on the built-in world: the inverse effect of shorter captions, and what each part of the method brings.

    bench/clips/compare.py OUT [--bin target/debug/examples] [--backend flex] [--steps 800] [--batch 64] [--seeds 3] [--jobs 2]
                               [--parts ablation,budgets]

Writes OUT/ARM_SEED/, OUT/budgets.svg and prints the tables. The programs `train`, `eval` and `scenes` must be built.

Budgets. A caption of the paper's study has 49 words, about 65 tokens, and budgets of 128, 64, 32 and 16: twice the mean, the
mean, a half and a quarter. Whole synthetic captions here have 21 to 69 tokens, 45 on average. So the budgets are 72 (nothing is
cut), 44, 22 and 11, in a context of 75, which holds the longest with its three special tokens.
"""

import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arms import Lab, parser, run_all, spread, table  # noqa: E402

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


def train(lab, name, seed, batch, method, context):
    settings = {"data.loader.batch_size": batch, "model.context_length": context, "method": method}
    lab.train(name, seed, "clips/recipes/scenes.toml", settings)


def caption(lab, name, seed, shown):
    """What a captioner says about unseen scenes: with their image (`own`), with `another`, or with `nothing`."""
    result = lab.out / "captions" / f"{name}_{seed}_{shown}.json"
    if result.is_file():
        return
    result.parent.mkdir(exist_ok=True)
    lab.call([
        "eval", "caption", "--model", lab.out / f"{name}_{seed}" / "model", "--shards", "{00000..00000}.tar", "--images", lab.out / "shards",
        "--shown", shown, "--name", "scenes", "--output", result, "--model-name", f"{name} {seed}", "--backend", lab.backend,
        "--batch-size", "16",
    ], result.with_suffix(".log"), cores=1)


def ablation(lab, seeds):
    rows = []
    for name, (title, _) in ABLATION.items():
        found = lab.results(name, seeds)
        if found:
            cells = [spread([result[metric] for result in found.values()]) for metric in COLUMNS.values()]
            rows.append((title, [str(len(found)), *cells]))
    table("texts", ["seeds", *COLUMNS], rows)


def captions(lab, seeds):
    found = {}
    for path in sorted((lab.out / "captions").glob("*.json")):
        name, seed, shown = path.stem.rsplit("_", 2)
        if int(seed) < seeds:
            found.setdefault((name, shown), []).append(json.loads(path.read_text())["metrics"])
    rows = []
    for (name, shown), results in sorted(found.items()):
        cells = [spread([100 * result[metric] for result in results]) for metric in ("token_acc", "bleu4", "cider_d")]
        rows.append((name, [shown, str(len(results)), *cells]))
    if rows:
        table("decoder", ["image", "seeds", "token accuracy", "BLEU-4", "CIDEr-D"], rows)


def recall(result):
    """The paper's axis: the mean of both directions; R@10 here, since R@1 among 480 scenes is mostly chance."""
    return (result["captions_image_retrieval_recall@10"] + result["captions_text_retrieval_recall@10"]) / 2


def budgets(lab, seeds):
    whole = lab.results("whole", seeds)
    if not whole:
        return
    curves, rows = {}, []
    for strategy in STRATEGIES:
        cells, curve = [], []
        for budget in BUDGETS:
            found = lab.results(budget_arm(strategy, budget), seeds)
            differences = [recall(result) - recall(whole[seed]) for seed, result in found.items() if seed in whole]
            cells.append(f"{spread(differences, signed=True)} ({len(differences)})" if differences else "–")
            if differences:
                curve.append((budget, statistics.mean(differences), statistics.stdev(differences) if len(differences) > 1 else 0.0))
        curves[strategy] = curve
        rows.append((strategy, cells))
    print(f"Mean of both R@10 less that of the whole caption ({spread([recall(r) for r in whole.values()])}), seed by seed (seeds):\n")
    table("strategy", [f"{budget} tokens" for budget in BUDGETS], rows)
    draw(lab.out / "budgets.svg", curves)


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
    step = next(step for step in (1, 2, 5, 10, 20) if (high - low) / step <= 10 or step == 20)
    for v in range(math.ceil(low / step) * step, high + 1, step):
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
    flags = parser(__doc__, steps=800)
    flags.add_argument("--batch", type=int, default=64)
    flags.add_argument("--parts", default="ablation,budgets", type=lambda text: text.split(","))
    arguments = flags.parse_args()
    lab, seeds, failed = Lab(arguments), arguments.seeds, []
    if not arguments.table:
        lab.make_data("imagenet", "karpathy", "webdataset")
        # Seed by seed, so that a table can be made at any time.
        tasks = [
            (f"{name}_{seed}", lambda name=name, seed=seed, arm=arm: train(lab, name, seed, arguments.batch, *arm))
            for seed in range(seeds) for name, arm in arms(arguments.parts).items()
        ]
        failed = run_all(tasks, arguments.jobs)
        tasks = [
            (f"captions of {name}_{seed}, {shown}", lambda arm=(name, seed, shown): caption(lab, *arm))
            for seed in range(seeds) for name in ("captioner", "autoregressive") for shown in ("own", "another", "nothing")
            if lab.done(name, seed)
        ]
        failed += run_all(tasks, arguments.jobs)
    ablation(lab, seeds)
    captions(lab, seeds)
    budgets(lab, seeds)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
