"""Mean and spread over seeds of the last validation of each run in a folder: table.py OUT"""

import json
import statistics
import sys
from pathlib import Path

COLUMNS = {
    "zero-shot, web words": "web_words_acc1",
    "zero-shot, synonyms": "synonyms_acc1",
    "text → image R@1": "captions_image_retrieval_recall@1",
    "text → image R@10": "captions_image_retrieval_recall@10",
    "image → text R@1": "captions_text_retrieval_recall@1",
    "image → text R@10": "captions_text_retrieval_recall@10",
}

runs = {}
for path in sorted(Path(sys.argv[1]).glob("*_[0-9]*/metrics.jsonl")):
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    last = [entry["values"] for entry in entries if entry["kind"] == "validation"]
    if last:
        runs.setdefault(path.parent.name.rsplit("_", 1)[0], []).append(last[-1])

print("| | seeds | " + " | ".join(COLUMNS) + " |")
print("|---|---|" + "---|" * len(COLUMNS))
for arm, results in runs.items():
    cells = []
    for metric in COLUMNS.values():
        values = [100 * result[metric] for result in results]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        cells.append(f"{statistics.mean(values):.1f} ± {spread:.1f}")
    print(f"| {arm} | {len(results)} | " + " | ".join(cells) + " |")
