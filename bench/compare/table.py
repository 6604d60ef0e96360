"""Medians, ratios, agreement, and the tables."""

import math
from statistics import median

from cases import SIDES

NAMES = {"encode_image": "encode_image", "encode_text": "encode_text", "train": "training step", "preprocess": "preprocessing",
         "tokenize": "tokenizing", "recall": "retrieval", "zero_shot": "zero-shot evaluation", "generate": "generation"}


def summed_up(turns, items):
    """The median of the turns' medians, the rate, and half of the range of the turns' medians as a share of it."""
    medians = [median(turn) for turn in turns]
    middle = median(medians)
    each = [dict(calls=len(turn), median_s=median(turn), min_s=min(turn), max_s=max(turn)) for turn in turns]
    return dict(turns=each, median_s=middle, rate=items / middle, spread=(max(medians) - min(medians)) / middle / 2)


def cosine(a, b):
    """The smallest cosine of two lists of rows."""
    def of_rows(x, y):
        norms = math.sqrt(sum(v * v for v in x)) * math.sqrt(sum(v * v for v in y))
        return sum(v * w for v, w in zip(x, y)) / norms if norms else math.nan

    return min(of_rows(x, y) for x, y in zip(a, b))


def agreement(case, side, reference):
    """What the answers of two sides have in common, in words; None where one has none."""
    key = case["agrees"]
    mine, theirs = side.get("ready", {}).get(key), reference.get("ready", {}).get(key)
    if not key or mine is None or theirs is None:
        return None
    if key == "features":
        return f"cosine {cosine(mine, theirs):.7f}"
    if key == "fingerprint":
        return "ids equal" if mine == theirs else "ids differ"
    if key == "losses":
        return f"losses within {max(abs(a - b) / abs(b) for a, b in zip(mine, theirs)):.1e}"
    if key == "recall":
        return f"recall within {max(abs(a - b) for a, b in zip(mine, theirs)):.1e}"
    return f"{key} within {abs(mine - theirs):.1e}"


def judged(case):
    """Ratios to the reference and agreement with it, written into the case."""
    reference = case["sides"].get(case["reference"], {})
    for side in case["sides"].values():
        if "rate" in side and "rate" in reference:
            side["ratio"] = side["rate"] / reference["rate"]
        if side is not reference and "rate" in side:
            side["agreement"] = agreement(case, side, reference)


def rounded(value):
    """Three digits, no exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def speed(case, side):
    if case["unit"] == "runs":
        shown = f"{rounded(side['median_s'])} s"
    else:
        shown = rounded(side["rate"])
    shown += f" ±{100 * side['spread']:.0f}%"
    return shown + (f" ({side['ratio']:.2f}×)" if "ratio" in side else "")


def table(report, heading, shown, with_unit=False):
    """A row for each case, a column for each side."""
    lines = ["", f"## {heading}", "", "| work | " + " | ".join(SIDES[side] for side in report["sides"]) + " |",
             "|---|" + "---|" * len(report["sides"])]
    for case in report["cases"]:
        unit = ", s" if case["unit"] == "runs" else f", {case['unit']}/s"
        cells = []
        for name in report["sides"]:
            side = case["sides"].get(name, {})
            cells.append(shown(case, side) if "rate" in side else "not here" if side else "")
        lines.append(f"| {NAMES[case['work']]}: {case['about']}{unit if with_unit else ''} | " + " | ".join(cells) + " |")
    return lines


def markdown(report):
    options, machine = report["options"], report["machine"]
    lines = [
        "# clip-burn and others, the same work side by side",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {options['threads']} threads; commit {report['commit']}.",
        "Versions: " + ", ".join(f"{name} {value or 'not here'}" for name, value in report["versions"].items()) + ".",
        f"{options['rounds']} rounds, in each of which every side had its turn of at least {options['seconds']} s (one call at least). "
        "A figure is the median of the turns' medians, ± half of their range. In brackets: how many times as fast as open_clip "
        "(generation: as transformers); above 1 is faster. Weights are random and the same on all sides, as are inputs.",
    ]
    if report["load"] > 0.5:
        lines += ["", f"**The machine was not idle: its load was {report['load']:.1f} at the start. Take these figures for nothing.**"]
    lines += table(report, "Speed", speed, with_unit=True)
    lines += table(report, "Peak memory of the process, MiB", lambda _, side: f"{side['peak_mib']:,.0f}" if side.get("peak_mib") else "?")
    lines += table(report, "Agreement with the reference", lambda _, side: side.get("agreement") or "")
    bf16 = [(case, name, side) for case in report["cases"] for name, side in case["sides"].items() if "cosine_to_f32" in side]
    if bf16:
        lines += ["", "## bf16: smallest cosine to the same side's f32 features", "", "| work | side | cosine |", "|---|---|---|"]
        lines += [f"| {case['about']} | {SIDES[name]} | {side['cosine_to_f32']:.6f} |" for case, name, side in bf16]
    absent = {}
    for case in report["cases"]:
        for name, side in case["sides"].items():
            if "not_here" in side:
                absent.setdefault((SIDES[name], side["not_here"]), []).append(f"{NAMES[case['work']]}: {case['about']}")
    if absent:
        lines += ["", "## Not here", ""]
        lines += [f"- {side} ({'; '.join(rows)}): {reason}" for (side, reason), rows in absent.items()]
    lines += ["", "## What is not alike", "", *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines) + "\n"
