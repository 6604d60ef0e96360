"""Reads what `llm` writes with transformers and peft, and says what they make of it.

Run by tests/parity/llm/written.rs: python llm_read_back.py DIR, where DIR holds
  causal/    a language model with its tokenizer
  encoder/   an encoder with its tokenizer
  adapter/   a PEFT adapter of it
  causal_adapter/   one of the language model, which changes two of its four layers
  texts.json
Writes DIR/theirs.safetensors: logits and hidden states, without and with the adapters, and DIR/ids.json.
"""

import json
import sys
from pathlib import Path

import peft
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
directory = Path(sys.argv[1])
texts = json.loads((directory / "texts.json").read_text())
tensors = {}

with torch.no_grad():
    ids = {}
    for name in ["causal", "encoder"]:
        tokenizer = AutoTokenizer.from_pretrained(directory / name)
        ids[name] = [tokenizer(text)["input_ids"] for text in texts]
    (directory / "ids.json").write_text(json.dumps(ids))

    def load(kind, name):
        model, info = kind.from_pretrained(directory / name, dtype=torch.float32, output_loading_info=True)
        assert not any(info[key] for key in ["missing_keys", "unexpected_keys", "mismatched_keys"]), info
        return model.eval()

    causal = load(AutoModelForCausalLM, "causal")
    tensors["logits"] = causal(torch.tensor(ids["causal"][:1])).logits

    def hidden(model):
        one = torch.tensor(ids["encoder"][:1])
        seen = torch.zeros(1, 1, one.shape[1], one.shape[1])  # all tokens see all
        return model(input_ids=one, attention_mask=seen, use_cache=False).last_hidden_state

    encoder = load(AutoModel, "encoder")
    tensors["hidden"] = hidden(encoder)

    def adapt(model, name):
        adapted = peft.PeftModel.from_pretrained(model, str(directory / name)).eval()
        missing = [name for name, value in adapted.named_parameters() if "lora_B" in name and not value.any()]
        assert not missing, missing  # PEFT only warns of names that it does not find
        return adapted

    tensors["adapted"] = hidden(adapt(encoder, "adapter"))
    tensors["adapted_logits"] = adapt(causal, "causal_adapter")(torch.tensor(ids["causal"][:1])).logits

save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, directory / "theirs.safetensors")
