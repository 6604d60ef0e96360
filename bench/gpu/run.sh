#!/usr/bin/env bash
# Parity and speed on a GPU, beside PyTorch on the same card. Needs what bench/gpu/pack.sh built, in target/gpu.
#   bench/gpu/run.sh [STAGE...]
# Stages, in this order by default: parity, matmul, train, infer, profile, scenes, report.
#   OUT       folder of results (default: runs/gpu); every stage adds lines to OUT/results.jsonl
#   BACKEND   cuda (default) or wgpu
#   PYTHON    a Python with torch, and open_clip or its wheels in the folder WHEELS; "none" leaves PyTorch out
#   MINUTES   length of the run on scenes (default: 12)
#   TRIAL     steps before it that tell how many fit (default: 200)
#   SECONDS_EACH  limit of one command (default: 300)
#   MODELS    of train and infer (default: ViT-B-32 ViT-B-16 ViT-L-14)
#   MODEL     of the profile (default: ViT-B-32)
#   PRECISION bf16 (default) or f32; parity is always measured in both
#   BATCH     (default: 256, and 1024 for scenes)
# A command that fails is written into the report; the others go on.
set -uo pipefail
cd "$(dirname "$0")/../.."
OUT="${OUT:-runs/gpu}" BACKEND="${BACKEND:-cuda}"
PYTHON="${PYTHON:-python3}" MINUTES="${MINUTES:-12}" TRIAL="${TRIAL:-200}" SECONDS_EACH="${SECONDS_EACH:-300}"
MODELS="${MODELS:-ViT-B-32 ViT-B-16 ViT-L-14}" PRECISION="${PRECISION:-bf16}"
mkdir -p "$OUT/bin"
OUT="$(cd "$OUT" && pwd)"
results="$OUT/results.jsonl"
for packed in target/gpu/*.xz; do
    [ -e "$packed" ] || continue
    binary="$OUT/bin/$(basename "$packed" .xz)"
    [ -x "$binary" ] || { xz -dc "$packed" >"$binary" && chmod +x "$binary"; }
done
if [ "$PYTHON" != none ] && [ -n "${WHEELS:-}" ] && ! "$PYTHON" -c 'import open_clip' 2>/dev/null; then
    "$PYTHON" -m pip install -q --no-index --no-deps --target "$OUT/site" "$WHEELS"/*.whl
    export PYTHONPATH="$OUT/site"
fi

# Runs a command that prints JSON lines; keeps them, or says that it failed.
measure() {
    echo "+ $*" >&2
    local said
    said="$(timeout "$SECONDS_EACH" "$@" 2>"$OUT/stderr.log")"
    local status=$?
    [ -z "$said" ] || echo "$said" | tee -a "$results"
    [[ "$said" != *'"error"'* ]] || return 1
    [ $status -ne 0 ] || return 0
    tail -n 5 "$OUT/stderr.log" >&2
    "${PYTHON/none/python3}" - "$status" "$*" "$OUT/stderr.log" >>"$results" <<'PY'
import json, sys
status, command, log = sys.argv[1:]
lines = open(log, errors="replace").read().strip().splitlines()
if status == "124":
    lines = ["ran past SECONDS_EACH"]
errors = [line for line in lines if line.startswith("Error") or "panicked" in line] or lines[-1:] or ["no message"]
print(json.dumps(dict(what="error", command=command, message=f"exit {status}: {errors[0]}"[:400])))
PY
    return 1
}
builds() { for binary in "$OUT"/bin/gpu-*; do basename "$binary" | sed 's/^gpu-//'; done; }
ours() { measure "$OUT/bin/gpu-$1" "${@:2}" --backend "$BACKEND"; }
peer() { [ "$PYTHON" = none ] || measure "$PYTHON" bench/gpu/peer.py "$@"; }
# The largest batch that does not fail, among those given from large to small.
largest() { # command...
    local batch
    for batch in 8192 4096 2048 1024 512; do
        "$@" "$batch" && return 0
    done
}

parity() {
    for build in $(builds); do
        ours "$build" parity --precision f32
        [ "$BACKEND" = wgpu ] || ours "$build" parity --precision bf16
    done
}

matmul() {
    for precision in bf16 f32; do
        peer matmul --precision "$precision"
        for build in $(builds); do
            ours "$build" matmul --precision "$precision"
        done
    done
}

train() {
    for model in $MODELS; do
        local step=(train --model "$model" --precision "$PRECISION")
        peer "${step[@]}" --batch "${BATCH:-256}"
        peer "${step[@]}" --batch "${BATCH:-256}" --compile
        for build in $(builds); do
            ours "$build" "${step[@]}" --batch-size "${BATCH:-256}"
        done
        ours "$(best)" "${step[@]}" --batch-size "${BATCH:-256}" --replay
        largest ours "$(best)" "${step[@]}" --batch-size
        largest peer "${step[@]}" --batch
    done
    ours "$(best)" train --model ViT-B-32 --precision f32 --batch-size "${BATCH:-256}"
    peer train --model ViT-B-32 --precision f32 --batch "${BATCH:-256}"
}

infer() {
    for model in $MODELS; do
        for batch in 1 32 256; do
            peer infer --model "$model" --precision "$PRECISION" --batch "$batch"
            peer infer --model "$model" --precision "$PRECISION" --batch "$batch" --compile
        done
        for build in $(builds); do
            ours "$build" infer --model "$model" --precision "$PRECISION"
        done
    done
}

# What each kernel of a step costs, in every build.
profile() {
    local build steps folder log
    for build in $(builds); do
        folder="$OUT/profile-$build"
        mkdir -p "$folder"
        printf '[profiling.logger]\nlevel = "basic"\nfile = "kernels.log"\n' >"$folder/cubecl.toml"
        for steps in 1 2; do
            log="$folder/$steps.log"
            rm -f "$folder/kernels.log"
            (cd "$folder" && timeout "$SECONDS_EACH" "$OUT/bin/gpu-$build" train --precision "$PRECISION" \
                --model "${MODEL:-ViT-B-32}" --batch-size "${BATCH:-256}" --steps "$steps" --backend "$BACKEND") \
                >/dev/null 2>"$OUT/stderr.log" || tail -n 3 "$OUT/stderr.log"
            mv "$folder/kernels.log" "$log"
        done
        # Three loops of plain and three of checked steps.
        { echo; echo "## $build"; echo; "${PYTHON/none/python3}" bench/gpu/kernels.py "$folder"/{1,2}.log 6; } |
            tee "$folder/kernels.md"
    done
}

# The build that trained ViT-B/32 fastest so far, among those that passed parity in f32; autotune before that is known.
best() {
    "${PYTHON/none/python3}" - "$results" <<'PY'
import json, sys
rates, failed = {}, set()
for line in open(sys.argv[1]):
    try:
        r = json.loads(line)
    except ValueError:
        continue
    if r.get("side") != "clip-burn":
        continue
    if r["what"] == "parity" and not r["pass"]:
        failed.add(r["build"])
    if r["what"] == "train" and r.get("model") == "ViT-B-32" and r.get("samples_per_s"):
        rates[r["build"]] = max(rates.get(r["build"], 0), r["samples_per_s"])
sound = {build: rate for build, rate in rates.items() if build not in failed} or rates
print(max(sound, key=sound.get) if sound else "autotune")
PY
}

# A real run: trained, killed half-way, resumed, evaluated.
scenes() {
    local BATCH="${BATCH:-1024}" out="$OUT" train="$OUT/bin/train"
    [ -d "$OUT/classes" ] || "$OUT/bin/scenes" --format imagenet --image-size 128 --images 2000 --out "$OUT/classes"
    [ -d "$OUT/retrieval" ] || "$OUT/bin/scenes" --format karpathy --image-size 128 --images 1000 --out "$OUT/retrieval"
    local classes="dataset=\"folder\", root=\"$out/classes/images\", templates=\"$out/classes/templates.txt\""
    local settings=(run.out="$out/scenes_s16" data.loader.batch_size="$BATCH" log.progress=false log.validate_every=1000
        "validation.zero_shot=[{name=\"web_words\", classnames=\"$out/classes/classnames_web.txt\", $classes},
            {name=\"synonyms\", classnames=\"$out/classes/classnames.txt\", $classes}]"
        "validation.retrieval=[{name=\"captions\", format=\"karpathy\", split=\"test\",
            images=\"$out/retrieval/images\", annotations=\"$out/retrieval/dataset_scenes.json\"}]")
    local run=("$train" --recipe recipes/scenes_s16.toml --backend "$BACKEND" --precision "$PRECISION"
        --resume latest "${settings[@]/#/--set=}")
    rm -rf "$OUT/scenes_s16"
    # How many steps fit?
    "${run[@]}" --set=run.out="$out/scenes_trial" --set=run.steps="$TRIAL" --set=schedule.warmup=1 --set=log.validate_every=0 \
        --set=validation.zero_shot=[] --set=validation.retrieval=[] 2>"$OUT/scenes_trial.log" ||
        { tail -n 5 "$OUT/scenes_trial.log"; return 1; }
    local steps
    steps="$("${PYTHON/none/python3}" - "$OUT/scenes_trial/metrics.jsonl" "$MINUTES" "$BATCH" "$TRIAL" <<'PY'
import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
speed = [row["speed"]["samples_per_second"] for row in rows if row["kind"] == "train"]
print(max(int(sys.argv[4]), int(sorted(speed)[len(speed) // 2] * 60 * float(sys.argv[2]) / int(sys.argv[3]))))
PY
)"
    rm -rf "$OUT/scenes_trial"
    echo "scenes: $steps steps"
    run+=(--set=run.steps="$steps" --set=schedule.warmup=$((steps / 20)))
    local memory=
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop=5 >"$OUT/scenes_memory.csv" &
        memory=$!
    fi
    "${run[@]}" 2>"$OUT/scenes_killed.log" &
    local child=$!
    sleep $((MINUTES * 30))
    kill -KILL "$child"
    wait "$child" 2>/dev/null
    "${run[@]}" 2>"$OUT/scenes_resumed.log" || { tail -n 5 "$OUT/scenes_resumed.log"; return 1; }
    [ -z "$memory" ] || kill "$memory"
    "${PYTHON/none/python3}" bench/gpu/scenes.py "$OUT/scenes_s16" "$OUT/scenes_memory.csv" | tee "$OUT/scenes.md"
}

report() {
    local line
    line="$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || echo "$BACKEND, no nvidia-smi")"
    "${PYTHON/none/python3}" bench/gpu/report.py "$results" --device-line "$line" >"$OUT/report.md"
    cat "$OUT"/profile-*/kernels.md "$OUT/scenes.md" >>"$OUT/report.md" 2>/dev/null
    cat "$OUT/report.md"
}

stages=("$@")
[ $# -gt 0 ] || stages=(parity matmul train infer profile scenes report)
for stage in "${stages[@]}"; do
    echo "=== $stage ($(date +%H:%M:%S))"
    "$stage"
done
