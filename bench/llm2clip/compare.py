#!/usr/bin/env python3
"""LLM2CLIP on the built-in world: what caption-contrastive tuning brings, and what the language model brings over CLIP's text tower.

    bench/llm2clip/compare.py OUT [--bin target/debug/examples] [--steps 250] [--lm-steps 1000] [--stage1-steps 2000] [--seeds 3] [--jobs 2]

For each seed: a small Llama from scratch on the world's captions; stage 1; stage 2 with the tuned Llama and with the one from
before; and plain CLIP on the same captions, in a context of 85 tokens, which holds the longest of them. The three have the same
vision tower, images, crops and steps. Test images are the same 480 for all; captions of three kinds. Beside it, how well each tells
captions apart. Prints tables over the seeds. The programs `scenes`, `tune_llm`, `embed_captions`, `train` and `eval` must be built.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arms import Lab, parser, run_all, spread, table  # noqa: E402

ARMS = {
    "clip": "CLIP, trained from scratch",
    "without-stage-1": "LLM2CLIP, without stage 1",
    "llm2clip": "LLM2CLIP",
}
KINDS = {"captions": "short", "long_captions": "long", "synonym_captions": "synonyms"}
COLUMNS = {"zero-shot, web words": ["web_words_acc1"], "zero-shot, synonyms": ["synonyms_acc1"]} | {
    f"{title}: R@10, mean of both ways": [f"{kind}_{way}_retrieval_recall@10" for way in ("image", "text")] for kind, title in KINDS.items()
}


def mean_of(result, metrics):
    return sum(result[metric] for metric in metrics) / len(metrics)


def clip(lab, seed):
    captions = {"data.captions": "{ web = 1.0, synthetic = 1.0 }", "model.context_length": 85}
    lab.train("clip", seed, "recipes/scenes.toml", captions, KINDS)


def language(lab, seed, lm_steps, stage1_steps):
    """A language model before and after stage 1, then stage 2 with each."""
    folder = lab.out / f"llm_{seed}"
    base, tuned = folder / "lm/model", folder / "contrastive/llm"
    lab.same_as_before(f"llm_{seed}", {"lm": lm_steps, "stage 1": stage1_steps})
    if not tuned.is_dir():
        settings = {
            "lm.run.out": folder / "lm", "lm.run.seed": seed, "lm.run.steps": lm_steps, "lm.log.progress": "false",
            "contrastive.run.out": folder / "contrastive", "contrastive.run.seed": seed, "contrastive.run.steps": stage1_steps,
            "contrastive.model.llm": base, "contrastive.log.progress": "false",
        }
        flags = [f"--set={key}={value}" for key, value in settings.items()]
        command = ["tune_llm", "--recipe", "llm2clip/recipes/stage1_scenes.toml", "--backend", lab.backend, "--resume", "latest", *flags]
        lab.call(command, lab.out / f"llm_{seed}.log", cores=1)
        if not tuned.is_dir():
            raise RuntimeError("it was stopped before its end")
    for name, llm in (("llm2clip", tuned), ("without-stage-1", base)):
        if lab.done(name, seed):
            continue
        store = lab.out / f"store_{name}_{seed}"
        recipe = "llm2clip/recipes/stage2_scenes.toml"
        if not (store / "store.json").is_file():
            command = ["embed_captions", "--llm", llm, "--input", recipe, "--fields", "web,synthetic", "--out", store]
            lab.call([*command, "--backend", lab.backend], lab.out / f"store_{name}_{seed}.log", cores=1)
        lab.train(name, seed, recipe, {"method.llm": llm, "method.stores": f'["{store}"]'}, KINDS)


TEXTS = {
    "lm": ("the language model before stage 1", "--llm", "llm_{}/lm/model"),
    "clip": ("CLIP's text tower", "--model", "clip_{}/model"),
    "tuned": ("the language model after stage 1", "--llm", "llm_{}/contrastive/llm"),
    "llm2clip": ("LLM2CLIP: it and its adapter", "--model", "llm2clip_{}/model"),
}
RANKS = (1, 5, 10)


def result_of(lab, name, seed):
    return lab.out / f"captions/{name}_{seed}.json"


def captions(lab, seed):
    """Of two captions of a test image, does the first find the second?"""
    for name, (_, flag, place) in TEXTS.items():
        model = lab.out / place.format(seed)
        if model.is_dir():
            data = ["--format", "karpathy", "--annotations", lab.out / "retrieval/dataset_scenes.json"]
            command = ["eval", "caption-retrieval", flag, model, *data, "--backend", lab.backend, "--overwrite"]
            lab.call([*command, "--output", result_of(lab, name, seed)], lab.out / f"captions_{name}_{seed}.log", cores=1)


def tables(lab, seeds):
    rows = []
    for name, (title, _, _) in TEXTS.items():
        files = [result_of(lab, name, seed) for seed in range(seeds)]
        found = [json.loads(file.read_text())["metrics"] for file in files if file.is_file()]
        if found:
            rows.append((title, [spread([100 * one[f"caption_retrieval_recall@{k}"] for one in found]) for k in RANKS]))
    if rows:
        table("captions by captions, percent", [f"R@{k}" for k in RANKS], rows)
    results = {name: lab.results(name, seeds) for name in ARMS}
    rows = [
        (title, [spread([mean_of(result, metrics) for result in results[name].values()]) for metrics in COLUMNS.values()])
        for name, title in ARMS.items() if results[name]
    ]
    for other, title in (("without-stage-1", "LLM2CLIP less that without stage 1"), ("clip", "LLM2CLIP less CLIP")):
        pairs = [(results["llm2clip"][seed], result) for seed, result in results[other].items() if seed in results["llm2clip"]]
        if pairs:
            gaps = [[mean_of(ours, m) - mean_of(theirs, m) for ours, theirs in pairs] for m in COLUMNS.values()]
            rows.append((f"{title}, seed by seed", [spread(gap, signed=True) for gap in gaps]))
    if rows:
        table("percent, mean ± standard deviation", COLUMNS, rows)


def main():
    flags = parser(__doc__, steps=250)
    flags.add_argument("--lm-steps", type=int, default=1000)
    flags.add_argument("--stage1-steps", type=int, default=2000)
    arguments = flags.parse_args()
    lab = Lab(arguments)
    failed = []
    if not arguments.table:
        lab.make_data("imagenet", "karpathy")
        tasks = []
        for seed in range(arguments.seeds):
            tasks.append((f"llm_{seed}", lambda seed=seed: language(lab, seed, arguments.lm_steps, arguments.stage1_steps)))
            tasks.append((f"clip_{seed}", lambda seed=seed: clip(lab, seed)))
        failed = run_all(tasks, arguments.jobs)
        failed += run_all([(f"captions_{seed}", lambda seed=seed: captions(lab, seed)) for seed in range(arguments.seeds)], arguments.jobs)
    tables(lab, arguments.seeds)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
