#!/usr/bin/env python3
"""LaCLIP against CLIP on the built-in world: what rewrites of the captions bring, and how many of them.

    bench/laclip/compare.py OUT [--bin target/debug/examples] [--backend flex] [--steps 250] [--seeds 3] [--jobs 2]

Writes OUT/ARM_SEED/ and prints the table. The programs `train` and `scenes` must be built.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from arms import Lab, parser, run_all, spread, table  # noqa: E402

ARMS = {
    "clip": ("CLIP, web captions", {"method.rewrites": 0}),
    "laclip-1": ("LaCLIP, 1 rewrite", {"method.rewrites": 1}),
    "laclip-2": ("LaCLIP, 2 rewrites", {"method.rewrites": 2}),
    "laclip-4": ("LaCLIP, 4 rewrites", {"method.rewrites": 4}),
    "laclip-mt": ("LaCLIP-MT, 4 rewrites", {"method.rewrites": 4, "method.multi_text": "per-slot"}),
}
COLUMNS = {
    "zero-shot, web words": "web_words_acc1",
    "synonyms": "synonyms_acc1",
    "text → image R@1": "captions_image_retrieval_recall@1",
    "R@10": "captions_image_retrieval_recall@10",
    "image → text R@1": "captions_text_retrieval_recall@1",
    "R@10 ": "captions_text_retrieval_recall@10",
}


def main():
    arguments = parser(__doc__, steps=250).parse_args()
    lab, failed = Lab(arguments), []
    if not arguments.table:
        lab.make_data("imagenet", "karpathy")
        # Seed by seed, so that a table can be made at any time.
        tasks = [
            (f"{name}_{seed}", lambda name=name, seed=seed, settings=settings: lab.train(name, seed, "laclip/recipes/scenes.toml", settings))
            for seed in range(arguments.seeds) for name, (_, settings) in ARMS.items()
        ]
        failed = run_all(tasks, arguments.jobs)
    rows = []
    for name, (title, _) in ARMS.items():
        found = lab.results(name, arguments.seeds)
        if found:
            cells = [spread([result[metric] for result in found.values()]) for metric in COLUMNS.values()]
            rows.append((title, [str(len(found)), *cells]))
    table("percent, mean ± standard deviation", ["seeds", *COLUMNS], rows)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
