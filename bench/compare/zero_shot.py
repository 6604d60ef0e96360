"""CLIP_benchmark's command. Its `accuracy` makes a float of an array of one, which numpy refuses since 2.4; here it does not.

    python bench/compare/zero_shot.py eval --model ... (its own options)
"""

import sys

from clip_benchmark import cli
from clip_benchmark.metrics import zeroshot_classification


def accuracy(output, target, topk=(1,)):
    best = output.topk(max(topk), 1, True, True)[1].t()
    right = best.eq(target.view(1, -1).expand_as(best))
    return [right[:k].reshape(-1).float().sum().item() / len(target) for k in topk]


zeroshot_classification.accuracy = accuracy
sys.exit(cli.main())
