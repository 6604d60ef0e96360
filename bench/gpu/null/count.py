"""What a training step asks of CUDA, counted without a GPU. Needs Python and a C compiler; NVRTC comes from PyPI.

  cargo build --no-default-features --features flex,cuda --example gpu
  python3 bench/gpu/null/count.py target/debug/examples/gpu [--model ViT-B-32] [--batch-size 256] [--json COUNTS.json]

The program trains twice on the null driver (run.sh), the second time a few steps longer; the difference, divided by those
steps, is a step. Launches are exact. Milliseconds are the host's alone, medians of the longer run: no GPU, however fast, gives
more steps per second on this machine. They need one that does nothing else; CPU time suffers less from other work.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
LOOPS = 6  # `gpu train` times three loops of plain and three of checked steps
SPLIT = 10  # and then ten steps in parts, of which it waits for each
PARTS = ("upload", "forward", "backward", "optimizer")
SHOWN = 20


def counts(args, precision, steps):
    """What the driver counted, with the seconds of processors that the run took, and the line of JSON that the program printed."""
    seconds = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "counts.json"
        program = [args.program, "train", "--model", args.model, "--batch-size", str(args.batch_size)]
        program += ["--precision", precision, "--backend", "cuda", "--steps", str(steps)]
        command = ["env", f"NULL_DRIVER_COUNTS={path}", *program]
        before = seconds()
        run = subprocess.run([HERE / "run.sh", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        said = [line for line in run.stdout.splitlines() if line.startswith("{")]
        if run.returncode or not said or not path.exists():
            sys.exit(f"`{' '.join(program)}` ended with {run.returncode} on the null driver:\n{run.stderr.strip()[-2000:]}")
        return json.loads(path.read_text()) | dict(cpu_s=seconds() - before), json.loads(said[-1])


def kind(name):
    """Kernels that differ in types and sizes only are of one kind.

    >>> kind("unary_float_f_f32_n_4"), kind("matmul_entry_lhs_bf16_lhs_size_8_rhs_bf16"), kind("slice_assign_kernel")
    ('unary_float', 'matmul_entry', 'slice_assign_kernel')
    """
    return re.sub(r"_[a-z]+_((f|bf|tf|i|u)\d+|bool)(_.*)?$", "", name) or name


def per_step(short, long, steps):
    """A step's share of everything that both runs counted."""
    difference = {}
    for key, value in long.items():
        if isinstance(value, dict):
            difference[key] = per_step(short[key], value, steps)
        elif isinstance(value, (int, float)):
            difference[key] = (value - short[key]) / steps
    return difference


def launches_of_parts(stretches):
    """Launches between the waits of the last steps; None where they do not fall into the four parts.

    The program waits after the upload, after the forward pass, which uploads again, after the backward pass and the optimizer.

    >>> launches_of_parts([7] + 10 * [1, 4, 5, 6])
    {'upload': 1, 'forward': 3, 'backward': 5, 'optimizer': 6}
    >>> launches_of_parts(40 * [1] + [2])
    """
    last = stretches[-SPLIT * len(PARTS) :]
    steps = [last[at : at + len(PARTS)] for at in range(0, len(last), len(PARTS))]
    if len(steps) < SPLIT or any(step != steps[-1] for step in steps):
        return None
    upload, forward, backward, optimizer = steps[-1]
    return dict(zip(PARTS, (upload, forward - upload, backward, optimizer)))


def step(args, precision):
    counts(args, precision, 1)  # compiles the kernels
    short, _ = counts(args, precision, 1)
    long, timed = counts(args, precision, 1 + args.steps)
    of_step = per_step(short, long, LOOPS * args.steps)
    kinds = Counter()
    for run, sign in ((long, 1), (short, -1)):
        for name, launches in run["kernels"]:
            kinds[kind(name)] += sign * launches / (LOOPS * args.steps)
    for direction in ("up", "down", "within"):  # of the whole run
        of_step[direction]["largest_2d"] = long[direction]["largest_2d"]
    return dict(
        model=args.model, batch=args.batch_size, precision=precision, build=timed["build"], peak_mib=long["peak_mib"],
        kernels=len(long["kernels"]), kinds=dict(kinds.most_common()), launches=of_step["launches"],
        parts=launches_of_parts(long["stretches"]), late_waits=of_step["late_waits"],
        cpu_ms=1e3 * of_step["cpu_s"],
        copies={direction: of_step[direction] for direction in ("up", "down", "within")},
        host_ms={name: timed[f"{name}_ms"] for name in ("step", *PARTS)},
    )  # fmt: skip


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def number(value, digits=1):
    return f"{value:,.{digits}f}".removesuffix("." + digits * "0")


def report(steps):
    first = steps[0]
    columns = [s["precision"] for s in steps]
    row = lambda name, of: [name, *(of(s) for s in steps)]
    rows = [
        row("launches", lambda s: number(s["launches"])),
        *(row(f"launches of {part}", lambda s: number(s["parts"][part]) if s["parts"] else "–") for part in PARTS),
        row("waits for earlier work", lambda s: number(s["late_waits"])),
        row("CPU time, all threads, ms", lambda s: number(s["cpu_ms"])),
        row("host, ms", lambda s: number(s["host_ms"]["step"])),
        *(row(f"{part} on the host, ms", lambda s: number(s["host_ms"][part])) for part in PARTS),
        row("at most, samples/s", lambda s: number(1e3 * s["batch"] / s["host_ms"]["step"], 0)),
        *(
            row(f"copies {direction}: 1-D, 2-D", lambda s: ", ".join(
                f"{number(c['calls' + d])} ({number(c['bytes' + d] / 1e6, 2)} MB)"
                for c in [s["copies"][direction]] for d in ("", "_2d")
            ))
            for direction in ("up", "down", "within")
        ),
        row("rows of 2-D copies up", lambda s: number(s["copies"]["up"]["rows_2d"])),
        row("kernels in all", lambda s: s["kernels"]),
        row("device memory at the peak, MiB", lambda s: number(s["peak_mib"], 0)),
    ]  # fmt: skip
    total = Counter()
    for s in steps:
        total.update(s["kinds"])
    names = [name for name, launches in total.most_common() if launches > 0]
    kinds = [row(name, lambda s: number(s["kinds"].get(name, 0))) for name in names[:SHOWN]]
    if names[SHOWN:]:
        rest = lambda s: number(sum(s["kinds"].get(name, 0) for name in names[SHOWN:]))
        kinds.append(row(f"{len(names) - SHOWN} other kinds", rest))
    what = f"{first['model']}, batch {first['batch']}, build `{first['build']}`: one training step\n\n"
    return what + table(["", *columns], rows) + "\n" + table(["launches per step by kind of kernel", *columns], kinds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the example gpu, built with the feature cuda")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", nargs="+", choices=("f32", "bf16"), default=["f32", "bf16"])
    parser.add_argument("--steps", type=int, default=4, help="that the second run has more than the first, in each loop")
    parser.add_argument("--most-rows", type=float, help="fail if a step copies more rows than these, one by one, to the device")
    parser.add_argument("--json", type=Path, help="also write everything here")
    args = parser.parse_args()
    if not Path(args.program).exists():
        parser.error(f"{args.program} is not there; build it: cargo build --no-default-features --features flex,cuda --example gpu")
    steps = [step(args, precision) for precision in args.precision]
    if args.json:
        args.json.write_text(json.dumps(steps, indent=1) + "\n")
    print(report(steps))
    for counted in steps:
        rows = counted["copies"]["up"]["rows_2d"]
        if args.most_rows is not None and rows > args.most_rows:
            sys.exit(
                f"a step in {counted['precision']} copies {rows:,.0f} rows one by one, more than {args.most_rows:,.0f}: upload large "
                "tensors with one axis and reshape them on the device"
            )


if __name__ == "__main__":
    main()
