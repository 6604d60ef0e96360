#!/usr/bin/env bash
# Parity and speed on a GPU, beside PyTorch on the same card. Needs what bench/gpu/pack.sh built, in target/gpu.
#   bench/gpu/run.sh [STAGE...]
# Stages, A B C by default. Each is a run of its own for machines that are had for minutes; what was measured is in OUT at once:
#   A  probe; parity and ViT-B/32 in the plain build, on LibTorch, and with products by cuBLASLt
#   B  the same with autotune, matrix products, ViT-B/16 on LibTorch
#   C  fusion+autotune, ViT-B/16 in the fastest build, ViT-L/14 on LibTorch, PyTorch's eager mode
#   infer profile scenes report: by name only; report is also written after each stage
# Settings, by environment:
#   OUT       folder of results, no more than eight small files (default: runs/gpu)
#   WORK      folder of everything else (default: clip-burn-gpu in the system's temporary folder)
#   MINUTES   of all stages together (default: 9); what does not begin in time is reported as such
#   EACH      minutes of one command at most (default: 4)
#   SCENES    minutes of the run on scenes (default: 4)
#   TRIAL     steps before it that tell how many fit (default: 200)
#   BACKEND   cuda (default) or wgpu
#   PYTHON    a Python with torch, and open_clip or its wheels in the folder WHEELS; "none" leaves PyTorch out
#   TORCH     folder of LibTorch's libraries for the build tch (default: those of PYTHON's torch)
#   MODEL     of the profile (default: ViT-B-32)
#   PRECISION bf16 (default) or f32; parity is always measured in both
#   BATCH     (default: 256, and 1024 for scenes)
#   STEPS     of each of the six timed loops of training (default: 30)
# A command that fails is written into the report; the others go on.
set -uo pipefail
cd "$(dirname "$0")/../.."
OUT="${OUT:-runs/gpu}" WORK="${WORK:-${TMPDIR:-/tmp}/clip-burn-gpu}"
MINUTES="${MINUTES:-9}" EACH="${EACH:-4}" SCENES="${SCENES:-4}" TRIAL="${TRIAL:-200}"
BACKEND="${BACKEND:-cuda}" PYTHON="${PYTHON:-python3}" PRECISION="${PRECISION:-bf16}" BATCH_SIZE="${BATCH:-256}" STEPS="${STEPS:-30}"
python="${PYTHON/none/python3}"
deadline=$((SECONDS + MINUTES * 60))
mkdir -p "$OUT" "$WORK/bin"
OUT="$(cd "$OUT" && pwd)" WORK="$(cd "$WORK" && pwd)"
results="$OUT/results.jsonl"
: >>"$results"

# ---- What the machine has ----

# Python's xz, since not every machine has the program.
unpack() { "$python" -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$1"; }
for packed in target/gpu/*.xz; do
    binary="$WORK/bin/$(basename "$packed" .xz)"
    [ ! -f "$packed" ] || [ "$binary" -nt "$packed" ] || { unpack "$packed" >"$binary" && chmod +x "$binary"; }
done
ls "$WORK"/bin/gpu-* >/dev/null 2>&1 || {
    echo "target/gpu has no programs: build them with bench/gpu/pack.sh and carry the folder here" >&2
    exit 1
}

# NVRTC, its builtins and the headers must be of one toolkit, the one whose nvcc is found, unless CUDA_PATH names another.
if [ -z "${CUDA_PATH:-}" ]; then
    nvcc="$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)"
    [ ! -e "$nvcc" ] || { CUDA_PATH="$(dirname "$(dirname "$(readlink -f "$nvcc")")")" && export CUDA_PATH; }
fi
for libraries in "${CUDA_PATH:-}"/{lib64,lib}; do
    # What LD_LIBRARY_PATH already names comes first: it may be a driver.
    [ ! -d "$libraries" ] || export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
done

# Compiled and tuned kernels: those that came along, if for this kind of GPU, and back with the results.
export XDG_CACHE_HOME="$WORK/cache"
capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1)"
carried="target/gpu/kernels-${capability:-none}.tar.gz"
if [ -f "$carried" ] && [ ! -d "$XDG_CACHE_HOME/clip-burn/kernels" ]; then
    mkdir -p "$XDG_CACHE_HOME" && tar -C "$XDG_CACHE_HOME" -xzf "$carried"
fi
kernels_back() {
    [ ! -d "$XDG_CACHE_HOME/clip-burn/kernels" ] ||
        tar -C "$XDG_CACHE_HOME" -czf "$OUT/kernels-${capability:-none}.tar.gz" clip-burn/kernels
}

if [ "$PYTHON" != none ] && [ -n "${WHEELS:-}" ] && ! "$PYTHON" -c 'import open_clip' 2>/dev/null; then
    "$PYTHON" -m pip install -q --no-index --no-deps --target "$WORK/site" "$WHEELS"/*.whl &&
        export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
fi
has_peer=no
[ "$PYTHON" = none ] || ! "$PYTHON" -c 'import open_clip' 2>/dev/null || has_peer=yes

# ---- Measuring ----

# Writes a failure down. What the command said is in errors.log.
failed() { # command, message
    echo "FAILED: $2" >&2
    "$python" -c 'import json, sys; print(json.dumps(dict(what="error", command=sys.argv[1], message=sys.argv[2][:400])))' "$@" >>"$results"
}

# Runs a command that prints JSON lines, each of which is kept at once.
measure() {
    local left=$((deadline - SECONDS)) limit=$((EACH * 60)) status line
    if [ $left -lt 20 ]; then
        failed "$*" "not begun: the MINUTES=$MINUTES were over"
        return 1
    fi
    [ $limit -le $left ] || limit=$left
    echo "+ $*" >&2
    timeout --kill-after=5 "$limit" "$@" 2>"$WORK/stderr.log" | tee -a "$results"
    status=${PIPESTATUS[0]}
    [ "$status" -ne 0 ] || return 0
    { echo "+ $*"; tail -n 30 "$WORK/stderr.log" | cut -c -2000; } >>"$OUT/errors.log"
    line="$(grep -m 1 -E '^Error|panicked|rror:' "$WORK/stderr.log" || tail -n 1 "$WORK/stderr.log")"
    # A panic says what it is about in the next line.
    [[ "$line" != *panicked* ]] || line="$(grep -m 1 -A 1 panicked "$WORK/stderr.log" | tr '\n' ' ')"
    case $status in
    124 | 137) line="ran past $limit s; MINUTES and EACH set the limit" ;;
    esac
    failed "$*" "exit $status: ${line:-no message}"
    return 1
}

there() { [ -x "$WORK/bin/gpu-$1" ]; }
missing() { failed "gpu-$*" "not built: bench/gpu/pack.sh $BACKEND $1, and carry target/gpu here"; }
ours() { # build, then arguments; of plain+cublaslt and autotune+cublaslt the program is that of the build without
    local build="${1%+cublaslt}" libraries
    there "$build" || { missing "$build" "${@:2}"; return 1; }
    local program=("$WORK/bin/gpu-$build" "${@:2}" --backend "$BACKEND")
    [ "$build" != "$1" ] || { measure "${program[@]}"; return; }
    # The toolkit's cuBLASLt, or else PyTorch's.
    libraries="$(torch_libraries)"
    measure env CLIP_BURN_CUBLASLT=1 LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}:$libraries" "${program[@]}"
}

# Our programs on LibTorch, which must be of the version that they were built with, and have CUDA.
torch_libraries() {
    [ -z "${TORCH:-}" ] || { echo "$TORCH"; return; }
    "$python" - 2>/dev/null <<'PY'
from importlib.util import find_spec
from pathlib import Path
torch = Path(find_spec("torch").submodule_search_locations[0])
print(":".join(map(str, [torch / "lib", *sorted(torch.parent.glob("nvidia/*/lib"))])))
PY
}
torch_version() { sed -n 's/^__version__ = .\([0-9]*\.[0-9]*\).*/\1/p' "$(dirname "${1%%:*}")/version.py" 2>/dev/null; }
tch() {
    there tch || { missing tch "$@"; return 1; }
    local libraries there built
    libraries="$(torch_libraries)"
    [ -f "${libraries%%:*}/libtorch_cuda.so" ] || {
        failed "gpu-tch $*" "no LibTorch with CUDA in '${libraries%%:*}': PYTHON names a Python with torch for CUDA, or TORCH the folder of libtorch_cuda.so"
        return 1
    }
    there="$(torch_version "$libraries")" built="$(cat target/gpu/gpu-tch.version 2>/dev/null)"
    [ -z "$there" ] || [ -z "$built" ] || [ "$there" = "$built" ] || {
        failed "gpu-tch $*" "built with LibTorch $built, and here is $there: build it with that (LIBTORCH=FOLDER bench/gpu/pack.sh $BACKEND tch)"
        return 1
    }
    # Preloaded, since a program that was linked to a LibTorch without CUDA does not ask for it.
    measure env LD_LIBRARY_PATH="$libraries" LD_PRELOAD="${libraries%%:*}/libtorch_cuda.so" \
        "$WORK/bin/gpu-tch" "$@" --backend tch:cuda
}

peer() {
    [ $has_peer = no ] || measure "$PYTHON" bench/gpu/peer.py "$@"
}

# The build that trained ViT-B/32 fastest so far, among those that passed parity in f32.
best() {
    "$python" - "$results" "$BACKEND" <<'PY'
import json, sys
rates, failed = {}, set()
for line in open(sys.argv[1]):
    try:
        r = json.loads(line)
    except ValueError:
        continue
    if r.get("side") != "clip-burn" or not r["backend"].startswith(sys.argv[2]):
        continue
    if r["what"] == "parity" and r["precision"] == "f32" and not r["pass"]:
        failed.add(r["build"])
    if r["what"] == "train" and r.get("model") == "ViT-B-32" and r.get("samples_per_s"):
        rates[r["build"]] = max(rates.get(r["build"], 0), r["samples_per_s"])
sound = {build: rate for build, rate in rates.items() if build not in failed} or rates
print(max(sound, key=sound.get) if sound else "plain")
PY
}

# ---- Stages ----

probe() {
    [ "$BACKEND" != cuda ] || measure "$python" bench/gpu/probe.py
}

parity() { # ours BUILD, or tch
    local precision
    for precision in f32 bf16; do
        [ "$BACKEND $1 $precision" != "wgpu ours bf16" ] || continue
        "$@" parity --models base vit_b_32_closed_form --precision "$precision"
    done
}

train() { # model, then ours BUILD, or tch
    "${@:2}" train --model "$1" --precision "$PRECISION" --batch-size "$BATCH_SIZE" --steps "$STEPS"
}

A() {
    probe || echo "The probe failed; what follows may fail for the same reason." >&2
    parity ours plain
    train ViT-B-32 ours plain
    parity tch
    train ViT-B-32 tch
    kernels_back
    [ "$BACKEND" != cuda ] || { parity ours plain+cublaslt; train ViT-B-32 ours plain+cublaslt; }
}

B() {
    parity ours autotune
    ours autotune matmul --precision "$PRECISION"
    tch matmul --precision "$PRECISION"
    train ViT-B-32 ours autotune
    kernels_back
    train ViT-B-16 tch
    # Again, with everything compiled and tuned.
    train ViT-B-32 ours autotune
}

C() {
    parity ours fusion+autotune
    train ViT-B-32 ours fusion+autotune
    kernels_back
    train ViT-B-16 ours "$(best)"
    train ViT-L-14 tch || train ViT-L-14 tch_replay
    [ $has_peer = yes ] || failed peer.py "no open_clip for PyTorch's side: PYTHON names a Python that has it, WHEELS a folder of its wheels"
    peer matmul --precision "$PRECISION"
    local model
    for model in ViT-B-32 ViT-B-16 ViT-L-14; do
        peer train --model "$model" --precision "$PRECISION" --batch "$BATCH_SIZE" --steps "$STEPS"
    done
    kernels_back
}
tch_replay() { tch "$@" --replay; }

infer() {
    local batch
    for batch in 1 32 256; do
        peer infer --model ViT-B-32 --precision "$PRECISION" --batch "$batch"
    done
    ours "$(best)" infer --model ViT-B-32 --precision "$PRECISION"
    tch infer --model ViT-B-32 --precision "$PRECISION"
}

# What each kernel of a step costs.
profile() {
    local build steps folder
    for build in plain autotune; do
        there $build || continue
        folder="$WORK/profile-$build"
        mkdir -p "$folder"
        printf '[profiling.logger]\nlevel = "basic"\nfile = "kernels.log"\n' >"$folder/cubecl.toml"
        for steps in 1 2; do
            rm -f "$folder/kernels.log"
            (cd "$folder" && timeout --kill-after=5 $((EACH * 60)) "$WORK/bin/gpu-$build" train --precision "$PRECISION" \
                --model "${MODEL:-ViT-B-32}" --batch-size "$BATCH_SIZE" --steps "$steps" --backend "$BACKEND") \
                >/dev/null 2>"$WORK/stderr.log" || { failed "profile of $build" "$(tail -n 1 "$WORK/stderr.log")"; continue 2; }
            mv "$folder/kernels.log" "$folder/$steps.log"
        done
        # Three loops of plain and three of checked steps.
        { echo; echo "## $build"; echo; "$python" bench/gpu/kernels.py "$folder"/{1,2}.log 6; } >>"$OUT/kernels.md"
    done
}

# A real run: trained, killed half-way, resumed, evaluated.
scenes() {
    local BATCH="${BATCH:-1024}" out="$WORK" program
    for program in train scenes; do
        [ -x "$WORK/bin/$program" ] || { failed scenes "$program is not built: bench/gpu/pack.sh $BACKEND scenes"; return 1; }
    done
    [ -d "$out/classes" ] || "$WORK/bin/scenes" --format imagenet --image-size 128 --images 2000 --out "$out/classes"
    [ -d "$out/retrieval" ] || "$WORK/bin/scenes" --format karpathy --image-size 128 --images 1000 --out "$out/retrieval"
    local classes="dataset=\"folder\", root=\"$out/classes/images\", templates=\"$out/classes/templates.txt\""
    local settings=(run.out="$out/scenes_s16" data.loader.batch_size="$BATCH" log.progress=false log.validate_every=1000
        "validation.zero_shot=[{name=\"web_words\", classnames=\"$out/classes/classnames_web.txt\", $classes},
            {name=\"synonyms\", classnames=\"$out/classes/classnames.txt\", $classes}]"
        "validation.retrieval=[{name=\"captions\", format=\"karpathy\", split=\"test\",
            images=\"$out/retrieval/images\", annotations=\"$out/retrieval/dataset_scenes.json\"}]")
    local run=("$WORK/bin/train" --recipe recipes/scenes_s16.toml --backend "$BACKEND" --precision "$PRECISION"
        --resume latest "${settings[@]/#/--set=}")
    rm -rf "$out/scenes_s16"
    # How many steps fit?
    "${run[@]}" --set=run.out="$out/scenes_trial" --set=run.steps="$TRIAL" --set=schedule.warmup=1 --set=log.validate_every=0 \
        --set=validation.zero_shot=[] --set=validation.retrieval=[] 2>"$WORK/stderr.log" ||
        { failed scenes "$(tail -n 1 "$WORK/stderr.log")"; return 1; }
    local steps
    steps="$("$python" - "$out/scenes_trial/metrics.jsonl" "$SCENES" "$BATCH" "$TRIAL" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
speed = [row["speed"]["samples_per_second"] for row in rows if row["kind"] == "train"]
print(max(int(sys.argv[4]), int(sorted(speed)[len(speed) // 2] * 60 * float(sys.argv[2]) / int(sys.argv[3]))))
PY
)"
    rm -rf "$out/scenes_trial"
    echo "scenes: $steps steps"
    run+=(--set=run.steps="$steps" --set=schedule.warmup=$((steps / 20)))
    local memory=
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop=5 >"$out/scenes_memory.csv" &
        memory=$!
    fi
    "${run[@]}" 2>"$WORK/stderr.log" &
    local child=$!
    sleep $((SCENES * 30))
    kill -KILL "$child"
    wait "$child" 2>/dev/null
    "${run[@]}" 2>"$WORK/stderr.log" || failed scenes "$(tail -n 1 "$WORK/stderr.log")"
    [ -z "$memory" ] || kill "$memory"
    "$python" bench/gpu/scenes.py "$out/scenes_s16" "$out/scenes_memory.csv" >"$OUT/scenes.md"
    cp "$out/scenes_s16/report.html" "$OUT/scenes.html"
}

report() {
    local line
    line="$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo "$BACKEND, no nvidia-smi")"
    [ -s "$results" ] || { echo "nothing measured yet: $results is empty" >&2; return 1; }
    { "$python" bench/gpu/report.py "$results" --device-line "$line" && cat "$OUT"/{kernels,scenes}.md 2>/dev/null; } >"$WORK/report.md"
    cp "$WORK/report.md" "$OUT/report.md"
}

stages=("$@")
[ $# -gt 0 ] || stages=(A B C)
for stage in "${stages[@]}"; do
    case "$stage" in
    A | B | C | probe | infer | profile | scenes | report) ;;
    *) echo "\`$stage\` is no stage; there are A, B, C, probe, infer, profile, scenes and report" >&2; exit 1 ;;
    esac
done
for stage in "${stages[@]}"; do
    echo "=== $stage ($(date +%H:%M:%S))" >&2
    "$stage"
    report
done
cat "$OUT/report.md" 2>/dev/null
