#!/usr/bin/env bash
# CLIP against LaCLIP on the built-in world: same model, same steps, three seeds.
#   bench/laclip/compare.sh OUT [STEPS] [JOBS]
# Writes OUT/ARM_SEED/ (a run each) and prints the table of bench/laclip/table.py.
set -euo pipefail
cd "$(dirname "$0")/../.."
out="$(mkdir -p "$1" && cd "$1" && pwd)"
steps="${2:-250}"
jobs="${3:-2}"
cargo build --release --example scenes --example train
bin="${CARGO_TARGET_DIR:-target}/release/examples"

world=(--image-size 48 --shapes 6 --colours 6 --max-objects 2 --images 480)
[ -d "$out/classes" ] || "$bin/scenes" --format imagenet --out "$out/classes" "${world[@]}"
[ -d "$out/retrieval" ] || "$bin/scenes" --format karpathy --out "$out/retrieval" "${world[@]}"
classes="dataset=\"folder\", root=\"$out/classes/images\", templates=\"$out/classes/templates.txt\""
zero_shot="[{name=\"web_words\", classnames=\"$out/classes/classnames_web.txt\", $classes},
            {name=\"synonyms\", classnames=\"$out/classes/classnames.txt\", $classes}]"
retrieval="[{name=\"captions\", format=\"karpathy\", split=\"test\", images=\"$out/retrieval/images\",
             annotations=\"$out/retrieval/dataset_scenes.json\"}]"

train() { # name seed settings...
    local run="$out/$1_$2" seed="$2"
    shift 2
    [ -f "$run/report.html" ] && return
    local settings=(run.out="$run" run.seed="$seed" run.steps="$steps" log.progress=false
        validation.zero_shot="$zero_shot" validation.retrieval="$retrieval" "$@")
    "$bin/train" --recipe laclip/recipes/scenes.toml "${settings[@]/#/--set=}" >"$run.log" 2>&1 ||
        { echo "failed: see $run.log" >&2; return 1; }
}

for seed in 0 1 2; do
    for arm in clip:0 laclip-1:1 laclip-2:2 laclip-4:4 laclip-mt:4:per-slot; do
        IFS=: read -r name rewrites form <<<"$arm"
        while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
        train "$name" "$seed" "method.rewrites=$rewrites" ${form:+"method.multi_text=$form"} &
    done
done
wait
python3 bench/laclip/table.py "$out"
