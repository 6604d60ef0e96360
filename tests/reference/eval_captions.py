"""Captions and their BLEU-4 and CIDEr-D: tests/fixtures/eval_captions.json.

References: sacrebleu without smoothing, and BLEU and CIDEr-D of the COCO evaluation (pycocoevalcap). Captions are words
between blanks, so that no tokenizer takes part. Run from the root of the repository.
"""

import json
import random
from pathlib import Path

import sacrebleu
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer

WORDS = "a the red blue small cat dog bird on under near mat tree sits runs and two".split()


def caption(rng, low, high):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


def vary(rng, text, share):
    words = [rng.choice(WORDS) if rng.random() < share else word for word in text.split()]
    return " ".join(words[: len(words) - rng.randint(0, 2)] or words)


def make(rng, images, references, share):
    refs = [[caption(rng, 5, 12) for _ in range(rng.randint(*references))] for _ in range(images)]
    return [vary(rng, rng.choice(of), share) for of in refs], refs


def score(candidates, references):
    # sacrebleu wants as many references for every candidate; None is none.
    most = max(len(of) for of in references)
    streams = [[of[i] if i < len(of) else None for of in references] for i in range(most)]
    bleu = sacrebleu.metrics.BLEU(smooth_method="none", tokenize="none", force=True)
    coco, cider = BleuScorer(n=4), CiderScorer(n=4, sigma=6.0)
    for candidate, of in zip(candidates, references):
        coco += (candidate, of)
        cider += (candidate, of)
    mean, each = cider.compute_score()
    return {
        "candidates": candidates,
        "references": references,
        "bleu_coco": coco.compute_score(option="closest", verbose=0)[0][3],
        "bleu_sacrebleu": bleu.corpus_score(candidates, streams).score / 100,
        "cider_d": float(mean),
        "cider_d_each": [float(value) for value in each],
    }


def main():
    rng = random.Random(20)
    sets = [
        make(rng, 12, (5, 5), 0.2),
        make(rng, 12, (1, 4), 0.3),
        make(rng, 5, (1, 1), 0.0),
        make(rng, 8, (2, 3), 0.9),
    ]
    sets[1][0][3] = "cat"  # shorter than any n-gram but one
    sets[1][0][4] = "dog dog dog dog dog dog dog dog dog dog dog dog dog dog dog"
    path = Path("tests/fixtures/eval_captions.json")
    path.write_text(json.dumps({"sets": [score(*s) for s in sets]}, indent=1) + "\n")


main()
