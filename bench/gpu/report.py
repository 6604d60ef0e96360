"""Makes Markdown tables from the JSON lines of peer.py and of our own program. Needs nothing but Python.

  python3 bench/gpu/report.py RESULTS.jsonl [--device-line "GPU, driver, versions"] > report.md
  python3 bench/gpu/report.py --self-test
"""

import argparse
import json
import sys
from statistics import median

from flops import flops

REFERENCE = "open_clip eager"
TF32 = """
Largest difference over the largest value of the tensor; losses absolute. burn's CUDA kernels multiply f32 as TF32, which
has 10 bits, in every build: differences near 1e-3 come from there, and up to 2e-3 pass. LibTorch multiplies in f32.
"""
REQUIRED = {
    "probe": dict(gpu=str, capability=str, versions=str, toolkit=str),
    "parity": dict(build=str, backend=str, model=str, precision=str, quantity=str, **{"pass": bool}),
    "matmul": dict(side=str, precision=str, tflops=(int, float)),
    "train": dict(side=str, model=str, precision=str, batch=int, replay=bool),
    "infer": dict(side=str, model=str, precision=str, batch=int),
    "error": dict(command=str, message=str),
}
NUMBERS = (  # may be null or absent, but must not be text
    "difference allowed size samples_per_s step_ms upload_ms forward_ms backward_ms optimizer_ms peak_mib"
    " images_per_s batch_ms kernel_compiled_s"
).split()


def read(lines):
    """Results by kind, and the lines that are none."""
    results, unclear = {what: [] for what in REQUIRED}, []
    for line in filter(str.strip, lines):
        try:
            result = json.loads(line)
            required = REQUIRED[result["what"]]
            clear = all(isinstance(result[key], kind) for key, kind in required.items())
            clear &= all(isinstance(result.get(key), (int, float, type(None))) for key in NUMBERS)
        except (ValueError, KeyError, TypeError):
            clear = False
        if clear:
            results[result["what"]].append(result)
        else:
            unclear.append(line.strip())
    return results, unclear


def side(result):
    return f"{result['side']} ({result['build']})" if "build" in result else result["side"]


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def table(head, rows):
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    clean = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in clean) + "\n"


def parity(results):
    def difference(result):
        value = result.get("difference")
        text = "–" if value is None else f"{value:.1e}"
        return text if result["pass"] else f"**{text} !**"

    def column(result):
        return f"{result['build']}, {result['backend']}"

    columns = list(dict.fromkeys(map(column, results)))
    rows = {}
    for result in results:
        rows.setdefault((result["model"], result["precision"], result["quantity"]), []).append(result)
    lines = []
    for key, row in rows.items():
        cells = [", ".join(difference(r) for r in row if column(r) == name) or "–" for name in columns]
        allowed = dict.fromkeys("–" if r.get("allowed") is None else f"{r['allowed']:.1e}" for r in row)
        lines.append([*key, *cells, ", ".join(allowed)])
    tables = table(["model", "precision", "quantity", *columns, "allowed"], lines)
    return tables + TF32 if tables else ""


def ceiling(results):
    rows = sorted(results, key=lambda r: r["precision"])
    lines = [[side(r), r["precision"], r.get("size", "–"), number(r["tflops"])] for r in rows]
    return table(["side", "precision", "size", "TFLOP/s"], lines)


def speed(results, rate, unit, columns, utilisation=None):
    """A row per run, those that did the same work together; `columns` are (head, key) pairs."""

    def work(r):
        return r["model"], r["precision"], r["batch"], r.get("replay", False)

    reference = {}
    for r in results:
        if side(r) == REFERENCE and r.get(rate):
            reference.setdefault(work(r), []).append(r[rate])
    lines = []
    for r in sorted(results, key=work):
        value, other = r.get(rate), reference.get(work(r))
        line = [*work(r)[:3], side(r), r["error"] if "error" in r else number(value)]
        line += [number(r.get(key), 0 if key == "peak_mib" else 2) for _, key in columns]
        if utilisation:
            line.insert(3, "yes" if r["replay"] else "no")
            line.append(utilisation(r))
        lines.append([*line, number(value / median(other), 2) if value is not None and other else "–"])
    head = ["model", "precision", "batch", *(["replay"] if utilisation else []), "side", unit]
    head += [name for name, _ in columns] + (["MFU"] if utilisation else []) + [f"of {REFERENCE}"]
    return table(head, lines)


def report(lines, device_line=None):
    results, unclear = read(lines)
    best = {}
    for r in results["matmul"]:
        best[r["precision"]] = max(r["tflops"], best.get(r["precision"], 0.0))

    def utilisation(r):
        work, peak, rate = flops(r["model"]), best.get(r["precision"]), r.get("samples_per_s")
        return f"{100 * work * rate / (1e12 * peak):.1f} %" if work and peak and rate is not None else "–"

    phases = [(f"{name} ms", f"{name}_ms") for name in ("step", "upload", "forward", "backward", "optimizer")]
    sections = {
        "Machine": "".join(
            f"- {r['gpu']} ({r['capability']}): {r['versions']}, toolkit {r['toolkit']}; a kernel compiled in "
            f"{number(r.get('kernel_compiled_s'), 2)} s\n"
            for r in results["probe"]
        ),
        "Parity": parity(results["parity"]),
        "Ceiling: square matrix products": ceiling(results["matmul"]),
        "Training": speed(
            results["train"], "samples_per_s", "samples/s", [*phases, ("peak MiB", "peak_mib")], utilisation
        ),
        "Inference": speed(results["infer"], "images_per_s", "images/s", [("batch ms", "batch_ms")]),
        "Failed": "".join(f"- `{r['command']}`: {' '.join(r['message'].split())}\n" for r in results["error"]),
        "Not understood": "".join(f"- `{line}`\n" for line in unclear),
    }
    head = [f"{device_line}\n"] if device_line else []
    return "\n".join(head + [f"## {name}\n\n{body}" for name, body in sections.items() if body])


# Made up: no machine measured these.
INVENTED = """
{"what":"probe","gpu":"H","capability":"9.0","versions":"NVRTC 1, driver 2","toolkit":"/cuda","kernel_compiled_s":0.5}
{"what":"parity","build":"x","backend":"cuda:0","model":"base","precision":"f32","quantity":"loss","difference":1e-6,"allowed":1e-5,"pass":true}
{"what":"parity","build":"y","backend":"cuda:0","model":"base","precision":"f32","quantity":"loss","difference":0.2,"allowed":1e-5,"pass":false}
{"what":"matmul","side":"pytorch","precision":"bf16","size":8192,"tflops":100.0}
{"what":"matmul","side":"clip-burn","build":"x","precision":"bf16","size":8192,"tflops":50.0}
{"what":"train","side":"open_clip eager","model":"ViT-B-32","batch":8,"precision":"bf16","replay":false,"samples_per_s":1000.0,"peak_mib":1234}
{"what":"train","side":"clip-burn","build":"x","model":"ViT-B-32","batch":8,"precision":"bf16","replay":false,"samples_per_s":500.0}
{"what":"train","side":"clip-burn","build":"y","model":"ViT-B-32","batch":8,"precision":"bf16","replay":true,"error":"out of memory"}
{"what":"infer","side":"clip-burn","build":"x","model":"ViT-B-32","batch":1,"precision":"f32","images_per_s":7.0,"batch_ms":null}
{"what":"error","command":"clip train | tee","message":"went\\nwrong"}
{"what":"weather","side":"sunny"}
{"what":"train","side":"clip-burn","model":"ViT-B-32","batch":"eight","precision":"bf16","replay":false}
{"what":"tr
"""


def self_test():
    text = report(INVENTED.splitlines(), "An invented device")
    print(text)
    for expected in (
        "- H (9.0): NVRTC 1, driver 2, toolkit /cuda; a kernel compiled in 0.50 s",
        "| base | f32 | loss | 1.0e-06 | **2.0e-01 !** | 1.0e-05 |",
        "| clip-burn (x) | bf16 | 8192 | 50.0 |",
        "| ViT-B-32 | bf16 | 8 | no | open_clip eager | 1,000.0 | – | – | – | – | – | 1,234 | 44.3 % | 1.00 |",
        "| ViT-B-32 | bf16 | 8 | no | clip-burn (x) | 500.0 | – | – | – | – | – | – | 22.2 % | 0.50 |",
        "| ViT-B-32 | bf16 | 8 | yes | clip-burn (y) | out of memory | – | – | – | – | – | – | – | – |",
        "| ViT-B-32 | f32 | 1 | clip-burn (x) | 7.0 | – | – |",
        "- `clip train | tee`: went wrong",
        '- `{"what":"weather","side":"sunny"}`',
        '"batch":"eight"',
        '- `{"what":"tr`',
    ):
        assert expected in text, f"missing: {expected}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="?", type=argparse.FileType(encoding="utf-8"), default=sys.stdin)
    parser.add_argument("--device-line")
    parser.add_argument("--self-test", action="store_true")
    args = parser.parse_args()
    if args.self_test:
        self_test()
    else:
        print(report(args.results, args.device_line))


if __name__ == "__main__":
    main()
