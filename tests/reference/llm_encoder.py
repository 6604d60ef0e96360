"""A tiny Llama as an encoder of texts, LoRA, and losses of language modelling, with what they give.

Run from the root of the repository, after llm.py, which empties the folder above:
    python tests/reference/llm_encoder.py
Writes tests/fixtures/llm/encoder:
  cc/               a bare bidirectional Llama as LLM2CLIP releases them: no head, bare names, a chat tokenizer
  texts.json        texts with instructions; ids, own tokens and cuts by LLM2Vec's rule and by the exact one
  pooled.safetensors  what every pooling makes of them
  lora/             a PEFT adapter of cc
  lora.safetensors  hidden states with it, gradients of its matrices, and hidden states after a merge
  losses.safetensors  next-token and MNTP losses of `llama3` and `llama3_tied` with all their gradients

LLM2Vec itself needs an old transformers, so its tokenization and pooling are restated here from their description. The
attention is transformers' own with a four-dimensional mask.
"""

import json
import random
import shutil
from pathlib import Path

import peft
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

from llm import LLAMA3, corpus

torch.set_num_threads(1)
ABOVE = Path("tests/fixtures/llm")
OUT = ABOVE / "encoder"
SEPARATOR = "!@#$%^&*()"
BEFORE, AFTER = "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
VOCAB = 420
POOLINGS = ["mean", "weighted_mean", "last", "bos"]
CASES = {  # name: (template, max_length, framing, bidirectional)
    "chat": (True, 512, "llm2vec", True),
    "plain": (False, 512, "llm2vec", True),
    "short": (True, 24, "llm2vec", True),
    "causal": (True, 512, "llm2vec", False),
    "exact": (True, 512, "exact", True),
    "exact_short": (True, 24, "exact", True),
    "long": (True, 512, "llm2vec", True),
}


def chat_tokenizer():
    split = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
             r"\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    # New lines merge as in Llama 3's vocabulary, which has tokens for two and three of them.
    lines = corpus() + ["user\n\n", "\n\n\n", "given a caption, retrieve a similar one; "] * 300
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL]
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token="<|eot_id|>",
                                   pad_token="<|eot_id|>", padding_side="left")


def texts():
    """(instruction, text): 0 to 64 words, and what is odd."""
    rng = random.Random(5)
    words = " ".join(corpus()[:200]).split()
    rows = [("", " ".join(rng.choice(words) for _ in range(n))) for n in range(65)]
    odd = ["\na leading newline", "\n\n two of them", "  spaces around  \n", "\x1c control around \x1f", "a tail\n\n",
           f"before {SEPARATOR}after it {SEPARATOR} and again", SEPARATOR, f"{SEPARATOR}", "ends <|eot_id|> inside",
           "<|eot_id|>", "<|begin_of_text|>begins", "a <|start_header_id|>user<|end_header_id|>\n\nturn", "\u00e9\u4e2d\U0001f600",
           "\n", " "]
    instructed = [("given a caption, retrieve a similar one; ", text) for text in ["a red dog", "", "\nnewline", odd[5]]]
    return rows + [("", text) for text in odd] + instructed


def long_texts():
    """Up to more than 512 tokens, beside one without any."""
    rng = random.Random(6)
    words = " ".join(corpus()[:200]).split()
    return [("", " ".join(rng.choice(words) for _ in range(n))) for n in [0, 1, 16, 64, 150, 300, 380, 450]]


def llm2vec_row(tokenizer, template, max_length, instruction, text):
    whole = f"{instruction}{SEPARATOR}{text}"
    if template:
        whole = BEFORE + whole.strip() + AFTER
    parts = whole.split(SEPARATOR)
    full = tokenizer("".join(parts))["input_ids"]
    own = tokenizer(parts[1], truncation=True, max_length=max_length, add_special_tokens=False)["input_ids"]
    ids = tokenizer("".join(parts), truncation=True, max_length=max_length)["input_ids"]
    return ids, min(len(own), len(ids)), len(full) > max_length


def exact_row(tokenizer, template, max_length, instruction, text):
    parse = lambda s: tokenizer(s, add_special_tokens=False)["input_ids"]
    plain = lambda s: tokenizer(s, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    head = [tokenizer.bos_token_id] + parse(BEFORE if template else "") + plain(instruction)
    tail = parse(AFTER if template else "")
    body = plain(text.strip())
    room = max_length - len(head) - len(tail)
    return head + body[:room] + tail, len(body[:room]) + len(tail), len(body) > room


def pad(rows):
    """Ids and a mask, padded on the left."""
    seq = max(len(ids) for ids, *_ in rows)
    ids = torch.tensor([[0] * (seq - len(row)) + row for row, *_ in rows])
    real = torch.tensor([[False] * (seq - len(row)) + [True] * len(row) for row, *_ in rows])
    return ids, real


def hidden_states(model, ids, real, bidirectional=True):
    """Positions are counted over the padding, as LLM2Vec does: attention depends on differences alone."""
    batch, seq = ids.shape
    visible = real[:, None, None, :].expand(batch, 1, seq, seq)
    if not bidirectional:
        visible = visible & torch.ones(seq, seq, dtype=torch.bool).tril()
    bias = torch.zeros(batch, 1, seq, seq).masked_fill(~visible, torch.finfo(torch.float32).min)
    out = model(input_ids=ids, attention_mask=bias, use_cache=False)
    return out.last_hidden_state


def pool(hidden, rows, real, how):
    vectors = []
    for state, (ids, own, _), is_real in zip(hidden, rows, real):
        if how == "mean":
            vectors.append(state[-own:].mean(0))
        elif how == "weighted_mean":
            weights = torch.arange(own) + 1.0
            vectors.append((state[-own:] * (weights / weights.sum())[:, None]).sum(0))
        elif how == "last":
            vectors.append(state[-1])
        else:
            vectors.append(state[is_real][0])
    return torch.stack(vectors)


def bare_llama():
    torch.manual_seed(11)
    config = LlamaConfig(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, rope_parameters=LLAMA3,
                         initializer_range=0.2, bos_token_id=0, eos_token_id=4, max_position_embeddings=512)
    model = LlamaModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
            parameter.copy_(parameter.bfloat16().float())
    return model


def write_release(model, tokenizer):
    directory = OUT / "cc"
    directory.mkdir(parents=True)
    state = {name: value.bfloat16().contiguous() for name, value in model.state_dict().items()}
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    config = json.loads(model.config.to_json_string(use_diff=False))
    rope = config.pop("rope_parameters")
    config["rope_theta"], config["rope_scaling"] = rope.pop("rope_theta"), rope
    keep = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
            "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings",
            "max_position_embeddings", "hidden_act", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id",
            "model_type"]
    config = {"architectures": ["LlamaEncoderModel"], "torch_dtype": "bfloat16", **{k: config[k] for k in keep}}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.backend_tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    named = dict(bos_token=SPECIAL[0], eos_token=dict(content="<|eot_id|>"))
    (directory / "tokenizer_config.json").write_text(json.dumps(named) + "\n")


@torch.no_grad()
def pooled(model, tokenizer):
    described, tensors = [], {}
    for case, (template, max_length, framing, bidirectional) in CASES.items():
        build = llm2vec_row if framing == "llm2vec" else exact_row
        rows, kept = [], []
        for instruction, text in long_texts() if case == "long" else texts():
            row = build(tokenizer, template, max_length, instruction, text)
            if row[1] > 0:  # no tokens, no vector
                rows.append(row)
                kept.append((instruction, text))
        described.append(dict(case=case, template=template, max_length=max_length, framing=framing, rows=[
            dict(instruction=i, text=t, ids=ids, own=own, truncated=cut) for (i, t), (ids, own, cut) in zip(kept, rows)]))
        ids, real = pad(rows)
        hidden = hidden_states(model, ids, real, bidirectional)
        alone = torch.stack([hidden_states(model, *pad([row]), bidirectional)[0, -1] for row in rows])
        difference = (alone - hidden[:, -1]).abs().max() / hidden.abs().max()
        print(f"{case}: {len(rows)} texts of {min(len(r[0]) for r in rows)} to {ids.shape[1]} tokens, "
              f"{sum(r[2] for r in rows)} cut; a row alone differs by {difference:.1e}")
        for how in POOLINGS if case == "chat" else ["mean"]:
            tensors[f"{case}.{how}"] = pool(hidden, rows, real, how)
    (OUT / "texts.json").write_text(json.dumps(described) + "\n")
    save_file(tensors, OUT / "pooled.safetensors")


def lora(model):
    """Hidden states and gradients with a random adapter; the base is frozen."""
    torch.manual_seed(3)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.05, target_modules=targets, bias="none")
    adapted = peft.get_peft_model(model, config).eval()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in trained.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    adapted.save_pretrained(OUT / "lora")
    (OUT / "lora/README.md").unlink(missing_ok=True)
    config_file = OUT / "lora/adapter_config.json"
    fields = json.loads(config_file.read_text())
    fields["target_modules"].sort()  # a set: its order changes from run to run
    fields["base_model_name_or_path"] = None
    config_file.write_text(json.dumps(fields, indent=2) + "\n")
    rows = [llm2vec_row(chat_tokenizer(), True, 512, *row) for row in texts()[3:24:5]]
    ids, real = pad(rows)
    hidden = hidden_states(adapted, ids, real)
    weights = torch.randn(hidden.shape) * real[..., None]
    (hidden * weights).sum().backward()
    tensors = {"ids": ids.int(), "lengths": real.sum(1).int(), "hidden": hidden.detach(), "weights": weights}
    for name, parameter in trained.items():
        name = name.removeprefix("base_model.model.").replace(".default", "")
        tensors[f"grad.{name}"] = parameter.grad.clone()
    merged = adapted.merge_and_unload().eval()
    with torch.no_grad():
        tensors["merged"] = hidden_states(merged, ids, real)
    print(f"lora: merged differs by {(tensors['merged'] - tensors['hidden']).abs().max():.1e}")
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, OUT / "lora.safetensors")


def losses():
    generator = torch.Generator().manual_seed(9)
    tensors = {}
    for name in ["llama3", "llama3_tied"]:
        model = LlamaForCausalLM.from_pretrained(ABOVE / name, dtype=torch.float32).eval()
        ids = torch.randint(3, 96, (3, 24), generator=generator)

        # Next token: transformers' own loss, where -100 is left out.
        labels = ids.clone()
        labels[torch.rand(labels.shape, generator=generator) < 0.2] = -100
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        tensors |= {f"{name}.ids": ids.int(), f"{name}.lm.labels": labels.int(), f"{name}.lm.loss": loss.detach()[None]}
        tensors |= {f"{name}.lm.grad.{n}": p.grad.clone() for n, p in model.named_parameters()}

        # MNTP: some tokens are masked, all are visible, the position before a masked one predicts it.
        model.zero_grad()
        chosen = torch.rand(ids.shape, generator=generator) < 0.3
        chosen[0, 0] = True  # nothing stands before it: it counts for nothing
        masked = torch.where(chosen, torch.full_like(ids, 2), ids)
        hidden = hidden_states(model.model, masked, torch.ones_like(ids, dtype=torch.bool))
        labels = torch.where(chosen, ids, -100)
        logits = model.lm_head(hidden)
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, 96), labels[:, 1:].reshape(-1), ignore_index=-100)
        loss.backward()
        tensors |= {f"{name}.mntp.masked": masked.int(), f"{name}.mntp.labels": labels.int(),
                    f"{name}.mntp.loss": loss.detach()[None]}
        tensors |= {f"{name}.mntp.grad.{n}": p.grad.clone() for n, p in model.named_parameters()}
    save_file(tensors, OUT / "losses.safetensors")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    tokenizer, model = chat_tokenizer(), bare_llama()
    write_release(model, tokenizer)
    pooled(model, tokenizer)
    lora(model)
    losses()


if __name__ == "__main__":
    main()
