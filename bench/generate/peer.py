"""A Llama of 110 M parameters with random weights, and how fast transformers generates with it.

  python bench/generate/peer.py make DIR
  python bench/generate/peer.py run DIR [f32|bf16] [batch sizes]
"""

import resource
import sys
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

PROMPT, TOKENS = 128, 64


def make(directory):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32000, hidden_size=768, intermediate_size=2048, num_hidden_layers=12,
                         num_attention_heads=12, num_key_value_heads=12, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(directory)
    # Any tokenizer will do; the benchmark feeds ids.
    model = Path("tests/fixtures/llm/tokenizer.model").read_bytes()
    (Path(directory) / "tokenizer.model").write_bytes(model)


@torch.no_grad()
def generate(model, ids, tokens):
    start = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    first = time.perf_counter() - start
    for _ in range(tokens - 1):
        out = model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
    return first, time.perf_counter() - start - first


def run(directory, dtype, batches):
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[dtype]
    model = LlamaForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, {dtype}, {torch.get_num_threads()} threads")
    for batch in batches:
        ids = torch.tensor([[(i + 7 * at) % 32000 for at in range(PROMPT)] for i in range(batch)])
        generate(model, ids, 2)
        first, rest = generate(model, ids, TOKENS)
        step = rest / (TOKENS - 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"batch {batch:>3}: prompt {first:.3f} s, then {1e3 * step:.1f} ms a step, {batch / step:.1f} tokens/s; peak {peak:.0f} MiB")


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        run(sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else "f32", [int(b) for b in sys.argv[4:]] or [1, 32])
