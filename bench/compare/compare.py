#!/usr/bin/env python3
"""The same work in clip-burn, open_clip, transformers and candle, in one run, turn by turn.

    python bench/compare/compare.py OUT --bin target/release/examples [--bin-tch DIR --libtorch DIR] [--only encode_image,train]

Writes OUT/compare.json and OUT/compare.md after every row. The sides of a row are loaded one after the other and then take turns,
A B C D, A B C D, so that a change of load hits them all. What is missing, a program or a package, is said in its cell. Checkpoints,
captions and shards are made in --data on the first run (4 GB). --list names the rows, --quick is a smoke run of small ones.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from cases import ROOT, SIDES, NotHere, cases, chosen, default_candle, default_python, needs, required
from sides import OneShot, Worker
from table import cosine, judged, markdown, summed_up

HERE = Path(__file__).resolve().parent
PAUSE = 0.3  # seconds before a turn: PyTorch's threads wait actively for a moment
NOTES = [
    "Texts have 9 to 18 tokens in a context of 77. clip-burn leaves out the padding that no embedding depends on, as its commands do; "
    "the others compute it.",
    "candle's CLIP knows QuickGELU only. Where the models have GELU (the default here) it computes another function of the same "
    "cost or less; `--activation quick_gelu` gives it and all others the same one.",
    "candle is built for the machine's own instructions (`target-cpu=native`), as its repository does it; clip-burn is not, and "
    "chooses them when it runs. candle is built without MKL.",
    "open_clip's tokenizer is Python on one thread and repairs texts by ftfy, as clip-burn does on all threads; those of transformers and "
    "candle only normalise Unicode, on all threads.",
    "bf16 is autocast in PyTorch and the same in clip-burn: weights stay in f32. transformers' and open_clip's attention is PyTorch's "
    "fused one; nothing is compiled by torch.compile, and AdamW is PyTorch's default one, as in open_clip's training.",
    "clip-burn's decoder of JPEGs is not libjpeg-turbo: pixels before the resize differ by rounding. transformers resizes by torchvision "
    "on tensors.",
    "CLIP_benchmark computes recall from a one-hot table, clip-burn by counting; the scores are the same matrix product.",
    "The zero-shot run of open_clip is CLIP_benchmark's command: starting Python and importing PyTorch is in it, and its data loader "
    "has processes of its own; the peak is that of the largest one alone.",
    "A process's peak memory includes the pages of the checkpoint that it mapped. open_clip holds a second copy while it loads, as its "
    "own loader does.",
]


def machine():
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    features = next((line.split(":", 1)[1].split() for line in text.splitlines() if line.startswith("flags")), [])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in features]
    return dict(cpu=(names or ["unknown CPU"])[0], cores=os.cpu_count(), memory_gib=round(memory), instructions=wide)


def said_by(*arguments):
    done = subprocess.run([str(word) for word in arguments], capture_output=True, text=True, cwd=ROOT)
    return done.stdout.strip() if done.returncode == 0 else ""


def versions(o):
    found = json.loads(said_by(o.python, HERE / "peers.py", "versions") or "{}")
    lock = HERE / "candle/Cargo.lock"
    lines = lock.read_text().splitlines() if lock.exists() else []
    for name, version in zip(lines, lines[1:]):
        if name == 'name = "candle-transformers"':
            found["candle"] = version.split('"')[1]
    return found


def start(case, side, o):
    return (OneShot if case.program else Worker)(case, side, o)


def measure(case, o):
    """One row: all sides are loaded, take turns, and end."""
    sides, running = {}, {}

    def give_up(name, reason):
        sides[name] = {"not_here": str(reason)}
        if name in running:
            running.pop(name).kill()

    try:
        for name in o.sides:
            sides[name] = {"turns": []}
            try:
                running[name] = start(case, name, o)
                sides[name]["ready"] = running[name].ready
                if o.fresh:
                    sides[name]["peak_mib"] = running.pop(name).end()
            except NotHere as reason:
                give_up(name, reason)
        alive = [name for name in o.sides if "not_here" not in sides[name]]
        for _ in range(o.rounds):
            for name in alive:
                if "not_here" in sides[name]:
                    continue
                time.sleep(PAUSE)
                try:
                    if o.fresh:
                        running[name] = start(case, name, o)
                    sides[name]["turns"].append(running[name].turn())
                    if o.fresh:
                        sides[name]["ready"] = running[name].ready
                        sides[name]["peak_mib"] = running.pop(name).end()
                except NotHere as reason:
                    give_up(name, reason)
        for name in list(running):
            try:
                sides[name]["peak_mib"] = running[name].end()
                running.pop(name)
            except NotHere as reason:
                give_up(name, reason)
    finally:
        for left in running.values():
            left.kill()
    for side in sides.values():
        if side.get("turns"):
            side |= summed_up(side["turns"], side["ready"]["items"])
    if case.precision == "bf16":
        beside_f32(case, sides, o)
    row = dict(work=case.work, about=case.about, unit=case.unit, precision=case.precision, threads=case.threads, reference=case.reference,
               agrees=case.agrees, sides=sides)
    judged(row)
    for side in sides.values():
        side.get("ready", {}).pop("features", None)  # thousands of numbers that have served
    return row


def beside_f32(case, sides, o):
    """How near the features of a side in bf16 are to its own in f32."""
    for name, side in sides.items():
        if "features" in side.get("ready", {}):
            try:
                twin = Worker(case, name, o, precision="f32")
                twin.end()
                side["cosine_to_f32"] = cosine(side["ready"]["features"], twin.ready["features"])
            except NotHere as reason:
                side["cosine_to_f32_not_here"] = str(reason)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("target/compare/out"))
    parser.add_argument("--bin", type=Path, default=Path("target/release/examples"), help="folder of the examples compare, eval and generate")
    parser.add_argument("--bin-tch", type=Path, help="the same of a build with --features tch")
    parser.add_argument("--libtorch", type=Path, help="LibTorch of that build; its lib/ is added to LD_LIBRARY_PATH")
    parser.add_argument("--candle", type=Path, default=default_candle(), help="the program of bench/compare/candle")
    parser.add_argument("--python", type=Path, default=default_python(), help="Python with the packages of tests/reference, and CLIP_benchmark")
    parser.add_argument("--data", type=Path, default=Path("target/compare/data"), help="where checkpoints, captions and shards are made")
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos"), help="one sub-folder of JPEGs for each class")
    parser.add_argument("--limit", type=int, default=0, help="photos at most [default: all]")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="least length of a turn")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="of encode_image")
    parser.add_argument("--captions", type=int, default=100_000)
    parser.add_argument("--rows", type=int, nargs=2, default=[25_000, 5_000], metavar=("TEXTS", "IMAGES"))
    parser.add_argument("--activation", choices=["gelu", "quick_gelu"], default="gelu", help="of the ViTs: as in open_clip's, or as in OpenAI's")
    parser.add_argument("--only", default="", help="works, names of rows, or parts of them, by commas")
    parser.add_argument("--sides", default=",".join(SIDES), help="by commas")
    parser.add_argument("--fresh", action="store_true", help="a new process for each turn: less memory, more time")
    parser.add_argument("--limit-s", type=float, default=1800, help="seconds after which a side is given up")
    parser.add_argument("--quick", action="store_true", help="small rows, one short turn each: does everything run?")
    parser.add_argument("--list", action="store_true", help="name the rows and end")
    o = parser.parse_args()
    o.sides = o.sides.split(",")
    unknown = [side for side in o.sides if side not in SIDES]
    if unknown:
        parser.error(f"--sides: {unknown[0]} is none of {', '.join(SIDES)}")
    if o.quick:
        o.rounds, o.seconds, o.captions, o.rows, o.limit = min(o.rounds, 2), 0.0, 1000, [500, 100], 12
        o.data = o.data.with_name(o.data.name + "-quick")
    # All commands run in the root of the repository. A Python is named as it is: resolved, it would leave its environment.
    for name in ("out", "bin", "bin_tch", "libtorch", "candle", "python", "data", "photos"):
        if value := getattr(o, name):
            setattr(o, name, Path(os.path.abspath(value)))
    return parser, o


def make(rows, o):
    """Makes what the rows need and is not there; what cannot be made is said in the cells."""
    o.not_made = ""
    if all(path.exists() for case in rows for path in required(case, o)):
        return
    words = [o.python, HERE / "make.py", o.data, *needs(rows, o)]
    made = subprocess.run([str(word) for word in words], env=dict(os.environ, HF_HUB_OFFLINE="1"), cwd=ROOT, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if made.returncode != 0:
        o.not_made = f"make.py failed: {(made.stderr.strip().splitlines() or ['it said nothing'])[-1][-300:]}"
        print(f"WARNING: {o.not_made}; rows that need what it makes are left out", file=sys.stderr)


def main():
    parser, o = arguments()
    rows = cases(o)
    if o.only:
        rows = chosen(rows, o.only)
        if not rows:
            parser.error(f"--only {o.only}: no such row; --list names them")
    if o.list:
        return print("\n".join(f"{case.work}: {case.about}" for case in rows))
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"WARNING: the load of this machine is {load:.1f}; figures of a busy machine mean nothing", file=sys.stderr)
    make(rows, o)
    o.out.mkdir(parents=True, exist_ok=True)
    changed = " with changes" if said_by("git", "status", "--porcelain") else ""
    report = dict(
        when=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), machine=machine(), versions=versions(o), load=load,
        commit=(said_by("git", "rev-parse", "--short", "HEAD") or "unknown") + changed, sides=o.sides, notes=NOTES, cases=[],
        options={name: getattr(o, name) for name in ("threads", "rounds", "seconds", "activation", "fresh", "quick", "limit", "captions", "rows")},
    )
    for at, case in enumerate(rows):
        begun = time.perf_counter()
        row = measure(case, o)
        report["cases"].append(row)
        # With the rows in hand: a run that is cut off has left what it measured.
        for name, text in (("compare.json", json.dumps(report, indent=1)), ("compare.md", markdown(report))):
            (o.out / f".{name}").write_text(text)
            (o.out / f".{name}").replace(o.out / name)
        cells = (f"{name} {side['rate']:.4g}" if "rate" in side else f"{name} not here" for name, side in row["sides"].items())
        print(f"{at + 1}/{len(rows)} {case.work}: {case.about} ({time.perf_counter() - begun:.0f} s): " + ", ".join(cells), flush=True)
    print(f"{o.out / 'compare.md'}")


if __name__ == "__main__":
    main()
