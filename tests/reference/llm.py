"""Tiny random Llamas in Hugging Face's and Meta's layouts, and a SentencePiece model, with what they give.

Run from the root of the repository: python tests/reference/llm.py
Writes tests/fixtures/llm:
  NAME/            config.json, model.safetensors (or shards): a `LlamaForCausalLM`
  NAME.safetensors ids, logits, ragged prompts, their greedy continuations
  meta/, meta_sharded/   the weights of `llama2` as consolidated.*.pth with params.json
  tokenizer.model  SentencePiece, byte-pair; above the model directories, as Meta keeps it
  tokenizer/       tokenizer.json (Llama 3's form), texts and ids of both
  top_p.json       what LLaMA's `sample_top_p` keeps of fixed logits
"""

import io
import json
import random
import shutil
from pathlib import Path

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers, Regex
from transformers import LlamaConfig, LlamaForCausalLM

OUT = Path("tests/fixtures/llm")
VOCAB = 96
PIECES = 420  # of the SentencePiece model
NEW_TOKENS = 64

COMMON = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
              bos_token_id=1, eos_token_id=2, initializer_range=0.3)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
VARIANTS = {
    # name: (fields, spelling of the rope fields, stored dtype, shards)
    "llama1": (dict(rms_norm_eps=1e-6), "old", torch.float16, 1),
    "llama2": (dict(rms_norm_eps=1e-5, num_key_value_heads=2, vocab_size=PIECES), "old", torch.float16, 2),
    "llama3": (dict(rms_norm_eps=1e-5, num_key_value_heads=2, rope_parameters=LLAMA3), "old", torch.bfloat16, 1),
    "llama3_tied": (dict(rms_norm_eps=1e-5, num_key_value_heads=1, tie_word_embeddings=True, rope_parameters=LLAMA3,
                         head_dim=16), "new", torch.float32, 1),
    "linear": (dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)), "new", torch.bfloat16, 1),
}


def write_config(model, directory, spelling):
    config = json.loads(model.config.to_json_string(use_diff=False))
    rope = config.pop("rope_parameters")
    if spelling == "old":  # as transformers before version 5 wrote it
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
        config["torch_dtype"] = str(config.pop("dtype")).removeprefix("torch.")
    else:
        config["rope_parameters"] = rope
    keep = [*COMMON, "num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters",
            "tie_word_embeddings", "torch_dtype", "dtype", "max_position_embeddings", "hidden_act", "attention_bias",
            "mlp_bias", "model_type"]
    config = {"architectures": ["LlamaForCausalLM"], **{k: config[k] for k in keep if k in config}}
    (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def write_weights(state, directory, shards):
    metadata = {"format": "pt"}
    if shards == 1:
        save_file(state, directory / "model.safetensors", metadata)
        return
    names, weight_map = sorted(state), {}
    for i in range(shards):
        file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in names[i::shards]}
        weight_map.update({name: file for name in part})
        save_file(part, directory / file, metadata)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


@torch.no_grad()
def llama(name, fields, spelling, dtype, shards):
    torch.manual_seed(sum(name.encode()))
    model = LlamaForCausalLM(LlamaConfig(**{**COMMON, **fields})).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.uniform_(0.5, 1.5)
        parameter.copy_(parameter.to(dtype).float())  # what a file of this type holds
    directory = OUT / name
    directory.mkdir(parents=True)
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if fields.get("tie_word_embeddings"):
        state.pop("lm_head.weight")
    if name == "llama1":  # old exports hold these, too
        for layer in range(2):
            state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.rand(4)
    model.config.dtype = dtype
    write_config(model, directory, spelling)
    write_weights(state, directory, shards)

    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(3, VOCAB, (2, 40), generator=generator)
    tensors = {"ids": ids.int(), "logits": model(ids).logits}
    for i, length in enumerate([3, 9, 1, 6]):
        while True:  # until no near tie makes the continuation depend on rounding
            prompt = torch.randint(3, VOCAB, (1, length), generator=generator)
            out = greedy(model, prompt)
            top = model(out).logits[0, length - 1 : -1].topk(2).values
            if (top[:, 0] - top[:, 1]).min() > 1e-3:
                break
        tensors[f"prompt.{i}"] = prompt[0].int()
        tensors[f"greedy.{i}"] = out[0, length:].int()
    half = LlamaForCausalLM(model.config).eval()
    half.load_state_dict(model.state_dict())
    error = (half.bfloat16()(ids).logits.float() - tensors["logits"]).abs()
    tensors["bf16_error"] = torch.stack([error.mean(), error.max()])
    save_file(tensors, OUT / f"{name}.safetensors")
    return model


def greedy(model, prompt):
    model.generation_config.eos_token_id = None
    return model.generate(prompt, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)


def interleave(weight, heads):
    """Rows from transformers' order (halves) to Meta's (neighbours)."""
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def meta(model):
    config = model.config
    state = {k: v.detach() for k, v in model.state_dict().items()}
    names = {"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
             "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
             "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm",
             "post_attention_layernorm": "ffn_norm"}
    out = {"tok_embeddings.weight": state["model.embed_tokens.weight"], "norm.weight": state["model.norm.weight"],
           "output.weight": state["lm_head.weight"], "rope.freqs": torch.rand(4)}
    for layer in range(config.num_hidden_layers):
        for theirs, metas in names.items():
            weight = state[f"model.layers.{layer}.{theirs}.weight"]
            if metas.endswith("wq"):
                weight = interleave(weight, config.num_attention_heads)
            if metas.endswith("wk"):
                weight = interleave(weight, config.num_key_value_heads)
            out[f"layers.{layer}.{metas}.weight"] = weight.clone()
        out[f"layers.{layer}.attention.inner_attention.rope.freqs"] = torch.rand(4)
    params = dict(dim=config.hidden_size, multiple_of=16, n_heads=config.num_attention_heads,
                  n_kv_heads=config.num_key_value_heads, n_layers=config.num_hidden_layers,
                  norm_eps=config.rms_norm_eps, vocab_size=-1)
    columns = ("wo.weight", "w2.weight", "tok_embeddings.weight")
    for name, shards in (("meta", 1), ("meta_sharded", 2)):
        directory = OUT / name
        directory.mkdir()
        (directory / "params.json").write_text(json.dumps(params) + "\n")
        for i in range(shards):
            def part(key, tensor):
                if tensor.ndim == 1:
                    return tensor.clone()
                return tensor.chunk(shards, dim=1 if key.endswith(columns) else 0)[i].clone()
            torch.save({k: part(k, v).half() for k, v in out.items()}, directory / f"consolidated.{i:02}.pth")


TEXTS = ["", " ", "a", "a photo of a dog", "  two  spaces   and three ", "line\nbreak\r\nand tab\t.", "1234567890 x2 3.14",
         "don't stop => now", "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m", "\U0001f436 dog \U0001f468\u200d\U0001f469\u200d\U0001f467", "\u65e5\u672c\u8a9e\u306e\u5199\u771f",
         "\u2581 the mark itself \u2581", "</s> is text <unk> too <0x0A>", "e\u0301 combining \u2028 separators \u00a0",
         " " * 12 + "source => target", "UPPER lower MiXeD", "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u041f\u0440\u0438\u0432\u0435\u0442", "\x00\x01 control", "....,,,;;;!!!???"]


def corpus():
    rng = random.Random(0)
    colors, things = ["red", "blue", "green", "small", "large"], ["dog", "cat", "house", "bird", "tree", "boat", "car"]
    places = ["on the beach", "in a garden", "under the bridge", "near the old river", "at night", "in the snow"]
    return [f"{rng.choice(['a', 'the', 'two', 'a photo of a'])} {rng.choice(colors)} {rng.choice(things)} "
            f"{rng.choice(places)}{rng.choice(['', '.', ' , 1920', ' => 12'])}" for _ in range(2000)]


def varied_texts():
    """Random mixtures of words, spaces, digits and odd characters."""
    rng = random.Random(1)
    parts = " ".join(corpus()[:50]).split() + [" ", "  ", "    ", "\n", "7", "42", "\u00e9", "\U0001f600", "=>", "-", "\u2581", "\u4e2d"]
    return ["".join(rng.choice(parts) + rng.choice(["", " ", " "]) for _ in range(rng.randint(1, 12)))
            for _ in range(200)]


def tokenizers_():
    directory = OUT / "tokenizer"
    directory.mkdir()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, vocab_size=PIECES, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, character_coverage=1.0, num_threads=1, minloglevel=2)
    (OUT / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    texts = TEXTS + varied_texts()
    rows = [{"text": t, "ids": pieces.encode(t, add_bos=True), "decoded": pieces.decode(pieces.encode(t))} for t in texts]
    (directory / "sentence_piece.json").write_text(json.dumps(rows) + "\n")

    # Llama 3's form: bytes as characters, a split by a regular expression, merges.
    split = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
             r"\s*[\r\n]+|\s+(?!\S)|\s+")
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=["<|begin_of_text|>", "<|end_of_text|>"], show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    config = {"bos_token": "<|begin_of_text|>", "eos_token": {"content": "<|end_of_text|>"}}
    (directory / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    rows = [{"text": t, "ids": [0] + tokenizer.encode(t).ids, "decoded": tokenizer.decode(tokenizer.encode(t).ids)}
            for t in texts]
    (directory / "byte_level.json").write_text(json.dumps(rows) + "\n")


def top_p():
    """The rule of LLaMA's `sample_top_p`: drop what comes after `p` of the mass was reached."""
    generator = torch.Generator().manual_seed(3)
    cases = []
    for size, temperature, p in [(10, 0.9, 0.95), (50, 0.8, 0.5), (1000, 0.9, 0.95), (1000, 0.3, 0.9), (50, 1.0, 1.0), (50, 1.0, 0.01)]:
        logits = (torch.randn(size, generator=generator) * 3).double().round(decimals=3)
        probs, index = torch.softmax(logits / temperature, -1).sort(descending=True)
        kept = (probs.cumsum(-1) - probs) <= p
        cases.append(dict(logits=logits.tolist(), temperature=temperature, top_p=p, kept=index[kept].tolist()))
    (OUT / "top_p.json").write_text(json.dumps(cases) + "\n")


def main():
    if OUT.exists():
        shutil.rmtree(OUT)
    OUT.mkdir(parents=True)
    built = {name: llama(name, *variant) for name, variant in VARIANTS.items()}
    tokenizers_()
    meta(built["llama2"])
    top_p()


if __name__ == "__main__":
    main()
