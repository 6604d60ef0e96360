#!/usr/bin/env python3
"""Kills a tiny training run by SIGKILL again and again, and checks what every start finds.

    cargo build --example train
    python3 bench/recovery/kill_loop.py target/debug/examples/train [KILLS] [SEED]

Each start must go on from the newest checkpoint that was complete when the process was killed, so that no kill costs more
than the steps since then. At the end the run is finished and its weights are compared, byte for byte, with those of a run
that nobody killed.
"""

import pathlib, random, re, signal, subprocess, sys, tempfile, time

binary = pathlib.Path(sys.argv[1]).resolve()
kills = int(sys.argv[2]) if len(sys.argv) > 2 else 200
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 0)
EVERY = 3

RECIPE = f"""
[run]
out = "killed"
steps = STEPS
accumulate = 2
replay = true
ema = 0.9
[model]
name = "tiny"
[method]
name = "laclip"
rewrites = 4
[schedule]
curve = "const"
warmup = 3
[data.loader]
batch_size = 4
workers = 2
[[data.sources]]
kind = "scenes"
world = {{ image_size = 32, train_size = 41, shapes = 2, colours = 3, max_objects = 1 }}
[checkpoint]
every = {EVERY}
keep = 2
[log]
every = 1
tensorboard = false
progress = false
"""


def complete(out):
    """Steps of the checkpoints that are whole."""
    found = out.glob("checkpoints/step_*/manifest.json")
    return sorted(int(path.parent.name[5:]) for path in found)


def logged(out):
    path = out / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


def start(folder, *more):
    command = [binary, "--recipe", folder / "recipe.toml", *more]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)


with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    out = folder / "killed"
    # So long that the kills come first; the length is set at the end.
    (folder / "recipe.toml").write_text(RECIPE.replace("STEPS", "1000000"))
    before, worst, damaged = 0, 0, 0
    for number in range(kills):
        process = start(folder, "--resume", "latest")
        deadline = time.time() + random.uniform(0.05, 0.9)
        goal = logged(out) + random.randint(1, 12)
        while time.time() < deadline and logged(out) < goal:
            time.sleep(0.001)
        newest = max(complete(out), default=0)  # whole before the kill: must not be lost
        process.send_signal(signal.SIGKILL)
        said = process.stderr.read()
        process.wait()
        resumed = re.search(r"resumed from .* at step (\d+)", said)
        step = int(resumed.group(1)) if resumed else 0
        begun = resumed or "no checkpoint yet" in said
        damaged += "is damaged" in said
        if begun and step < before:
            sys.exit(f"kill {number}: went on at step {step}, though the checkpoint of step {before} was whole\n{said}")
        if "error:" in said:
            sys.exit(f"kill {number}: {said}")
        worst = max(worst, logged(out) - newest)
        before = newest
    steps = max(logged(out), before) + 2 * EVERY
    final = ["--set", f"run.steps={steps}"]
    for run in [["--resume", "latest", "--accept-changes"], ["--set", "run.out=whole"]]:
        process = start(folder, *final, *run)
        said = process.stderr.read()
        if process.wait() != 0:
            sys.exit(said)
    same = [
        (folder / "whole" / file).read_bytes() == (out / file).read_bytes()
        for file in [
            "model/open_clip_model.safetensors",
            "model_ema/open_clip_model.safetensors",
            f"checkpoints/step_{steps:08}/optimizer.safetensors",
        ]
    ]
    left = [path.name for path in out.glob("checkpoints/.*")]
    print(
        f"{kills} kills, {steps} steps: at most {worst} steps lost by one kill (a checkpoint every {EVERY}), "
        f"{damaged} damaged checkpoints met, leftovers {left}, "
        f"weights, averages and moments equal to an undisturbed run: {all(same)}"
    )
    sys.exit(0 if all(same) and not left else 1)
