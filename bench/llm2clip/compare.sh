#!/usr/bin/env bash
# Plain CLIP against LLM2CLIP on the built-in world, with and without stage 1: same tower, same captions, three seeds.
#   bench/llm2clip/compare.sh OUT [STEPS] [STAGE1_STEPS]
# Writes OUT/ARM_SEED/ (a run each) and prints the table of bench/laclip/table.py; caption-to-caption retrieval before and
# after stage 1 is in OUT/llm_SEED.log.
set -euo pipefail
cd "$(dirname "$0")/../.."
out="$(mkdir -p "$1" && cd "$1" && pwd)"
steps="${2:-250}"
stage1="${3:-200}"
cargo build --release --examples
bin="${CARGO_TARGET_DIR:-target}/release/examples"

world=(--image-size 48 --shapes 6 --colours 6 --max-objects 2 --images 480)
[ -d "$out/classes" ] || "$bin/scenes" --format imagenet --out "$out/classes" "${world[@]}"
[ -d "$out/retrieval" ] || "$bin/scenes" --format karpathy --out "$out/retrieval" "${world[@]}"
classes="dataset=\"folder\", root=\"$out/classes/images\", templates=\"$out/classes/templates.txt\""
zero_shot="[{name=\"web_words\", classnames=\"$out/classes/classnames_web.txt\", $classes},
            {name=\"synonyms\", classnames=\"$out/classes/classnames.txt\", $classes}]"
retrieval="[{name=\"captions\", format=\"karpathy\", split=\"test\", images=\"$out/retrieval/images\",
             annotations=\"$out/retrieval/dataset_scenes.json\"}]"

train() { # name seed recipe settings...
    local run="$out/$1_$2" seed="$2" recipe="$3"
    shift 3
    [ -f "$run/report.html" ] && return
    local settings=(run.out="$run" run.seed="$seed" run.steps="$steps" log.progress=false
        validation.zero_shot="$zero_shot" validation.retrieval="$retrieval" "$@")
    "$bin/train" --recipe "$recipe" "${settings[@]/#/--set=}" >"$run.log" 2>&1 ||
        { echo "failed: see $run.log" >&2; return 1; }
}

tune() { # seed
    local lm="$out/llm_$1/lm" tuned="$out/llm_$1/contrastive"
    [ -d "$tuned/llm" ] && return
    local settings=(lm.run.out="$lm" lm.run.seed="$1" contrastive.run.out="$tuned" contrastive.run.seed="$1"
        contrastive.run.steps="$stage1" contrastive.model.llm="$lm/model" lm.log.progress=false
        contrastive.log.progress=false)
    "$bin/tune_llm" --recipe llm2clip/recipes/stage1_scenes.toml "${settings[@]/#/--set=}" >"$out/llm_$1.log" 2>&1 ||
        { echo "failed: see $out/llm_$1.log" >&2; return 1; }
    tail -n 1 "$out/llm_$1.log"
}

llm2clip() { # name seed language-model
    local store="$out/store_$1_$2"
    "$bin/embed_captions" --llm "$3" --input llm2clip/recipes/stage2_scenes.toml --fields web,synthetic --out "$store"
    train "$1" "$2" llm2clip/recipes/stage2_scenes.toml method.llm="$3" method.stores="[\"$store\"]"
}

for seed in 0 1 2; do
    tune "$seed"
    train clip "$seed" recipes/scenes.toml data.captions="{web=1.0, synthetic=1.0}"
    llm2clip llm2clip "$seed" "$out/llm_$seed/contrastive/llm"
    llm2clip llm2clip-without-stage-1 "$seed" "$out/llm_$seed/lm/model"
done
python3 bench/laclip/table.py "$out"
