"""LLM2CLIP in small: adapter, losses, a released checkpoint, ten steps of stage 2, and rates of learning by layer.

Run from the root of the repository, after llm_encoder.py, whose Llama and adapter are used:
    python tests/reference/llm2clip.py
Writes tests/fixtures/llm2clip:
  adapter.safetensors   a text adapter under the release's names, vectors, what it makes of them, gradients
  loss.safetensors      SimCSE with hard negatives and its gradients
  contrast.safetensors  the same through the Llama with LoRA, from the texts in contrast.json
  eva.pt, eva.json      a model as LLM2CLIP releases its EVA-02 files, and its configuration
  eva.safetensors       its embeddings of images and texts; batches, losses, norms of gradients, and some of the weights
                        after ten steps of stage 2
  openai/               a model as LLM2CLIP releases its OpenAI towers
  rates.json            factors on the learning rate

The original code needs other versions of everything, so networks and rules are restated here from their description.
"""

import json
import re
import shutil
from pathlib import Path

import peft
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, LlamaModel, PreTrainedTokenizerFast

torch.set_num_threads(1)
OUT = Path("tests/fixtures/llm2clip")
CC, LORA = Path("tests/fixtures/llm/encoder/cc"), Path("tests/fixtures/llm/encoder/lora")
BEFORE, AFTER = "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.ln = nn.LayerNorm(width, eps=1e-5)
        self.fn = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.0), nn.Linear(2 * width, width))

    def forward(self, x):
        return x + self.fn(self.ln(x))


class Adapter(nn.Module):
    def __init__(self, width, embed_dim):
        super().__init__()
        blocks = [Residual(width) for _ in range(4)]
        self.text_adaptor = nn.Sequential(*blocks, nn.LayerNorm(width, eps=1e-5), nn.Linear(width, embed_dim))

    def forward(self, vectors):
        return self.text_adaptor(F.normalize(vectors, dim=-1))


class EvaAttention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q_proj, self.v_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.inner_attn_ln, self.proj = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, width)

    def forward(self, x, cos, sin):
        batch, seq, width = x.shape
        split = lambda x: x.view(batch, seq, self.heads, -1).transpose(1, 2)

        def turn(x):
            head, patches = x[:, :, :1], x[:, :, 1:]
            pairs = patches.unflatten(-1, (-1, 2))
            turned = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
            return torch.cat([head, patches * cos + turned * sin], 2)

        q, k, v = turn(split(self.q_proj(x))), turn(split(self.k_proj(x))), split(self.v_proj(x))
        weights = (q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        return self.proj(self.inner_attn_ln((weights @ v).transpose(1, 2).reshape(batch, seq, width)))


class EvaMlp(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.w1, self.w2, self.w3 = nn.Linear(width, hidden), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.ffn_ln = nn.LayerNorm(hidden, eps=1e-6)

    def forward(self, x):
        return self.w3(self.ffn_ln(F.silu(self.w1(x)) * self.w2(x)))


class EvaBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = EvaAttention(width, heads), EvaMlp(width, hidden)

    def forward(self, x, cos, sin):
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Eva(nn.Module):
    def __init__(self, width=16, depth=2, heads=2, image=24, patch=8, embed_dim=12):
        super().__init__()
        grid = image // patch
        self.cls_token = nn.Parameter(torch.randn(1, 1, width) * 0.5)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid * grid, width) * 0.5)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, patch, patch)
        self.blocks = nn.ModuleList(EvaBlock(width, heads, int(width * 2.6667)) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, embed_dim)
        half = width // heads // 2
        frequencies = 10000 ** (-2 * torch.arange(half // 2).double() / half)
        place = torch.arange(grid).double() / grid * 16
        angles = (place[:, None] * frequencies).repeat_interleave(2, -1)
        rows, columns = angles[:, None].expand(grid, grid, half), angles[None].expand(grid, grid, half)
        angles = torch.cat([rows, columns], -1).flatten(0, 1)
        self.rope = nn.Module()
        self.rope.register_buffer("freqs_cos", angles.cos().float())
        self.rope.register_buffer("freqs_sin", angles.sin().float())

    def forward(self, images):
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x, self.rope.freqs_cos, self.rope.freqs_sin)
        return self.head(self.norm(x)[:, 0])


class Model(nn.Module):
    def __init__(self, llm_width=32, embed_dim=12):
        super().__init__()
        self.visual, self.text = Eva(embed_dim=embed_dim), Adapter(llm_width, embed_dim)
        self.logit_scale = nn.Parameter(torch.tensor(3.5))


EVA_CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 24, "timm_model_name": "eva02_base_patch16_clip_224", "timm_pool": "token",
                   "timm_proj": None,
                   "timm_model_kwargs": {"img_size": 24, "patch_size": 8, "depth": 2, "num_heads": 2, "embed_dim": 16}},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    "custom_text": True,
}


def save(tensors, name):
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, OUT / f"{name}.safetensors")


def adapter():
    torch.manual_seed(1)
    model = Adapter(6, 5)
    vectors, weights = (3 * torch.randn(7, 6)).requires_grad_(), torch.randn(7, 5)
    out = model(vectors)
    (out * weights).sum().backward()
    tensors = {"vectors": vectors, "weights": weights, "out": out, "grad.vectors": vectors.grad}
    for name, parameter in model.named_parameters():
        tensors |= {f"text.{name}": parameter, f"grad.text.{name}": parameter.grad}
    save(tensors, "adapter")


def hard_negatives(query, positive, negative, scale):
    documents = F.normalize(torch.cat([positive, negative]), dim=-1, eps=1e-12)
    logits = scale * F.normalize(query, dim=-1, eps=1e-12) @ documents.T
    return F.cross_entropy(logits, torch.arange(len(query)))


def loss():
    torch.manual_seed(2)
    rows = {name: torch.randn(5, 7).requires_grad_() for name in ["query", "positive", "negative"]}
    value = hard_negatives(*rows.values(), 50.0)
    value.backward()
    save(rows | {f"grad.{name}": tensor.grad for name, tensor in rows.items()} | {"loss": value[None]}, "loss")


def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_file=str(CC / "tokenizer.json"), bos_token="<|begin_of_text|>")


def pooled(model, tokens, rows):
    """Means over the texts' own tokens, of (instruction, text)."""
    full = [tokens(BEFORE + instruction + text + AFTER)["input_ids"] for instruction, text in rows]
    own = [len(tokens(text + AFTER, add_special_tokens=False)["input_ids"]) for _, text in rows]
    seq = max(map(len, full))
    ids = torch.tensor([[0] * (seq - len(row)) + row for row in full])
    real = torch.tensor([[False] * (seq - len(row)) + [True] * len(row) for row in full])
    visible = real[:, None, None, :].expand(len(rows), 1, seq, seq)
    bias = torch.zeros(len(rows), 1, seq, seq).masked_fill(~visible, torch.finfo(torch.float32).min)
    hidden = model(input_ids=ids, attention_mask=bias, use_cache=False).last_hidden_state
    return torch.stack([state[-n:].mean(0) for state, n in zip(hidden, own)])


def contrast():
    instruction = "Given a sentence, retrieve a detailed relevant sentence"
    triplets = [
        ["a red dog", "a red dog runs over the grass beside a house", "two cats sleep on a chair"],
        ["two cats on a chair", "two cats sleep on a chair in the sun", "a boat"],
        ["a boat", "a small boat lies on the beach, behind it the sea", "a red dog runs over the grass"],
    ]
    (OUT / "contrast.json").write_text(json.dumps({"instruction": instruction, "triplets": triplets}, indent=1) + "\n")
    model = peft.PeftModel.from_pretrained(LlamaModel.from_pretrained(CC, dtype=torch.float32), LORA, is_trainable=True)
    model.eval()  # no dropout
    rows = [[(instruction + "; " if at == 0 else "", texts[at]) for texts in triplets] for at in range(3)]
    tokens = tokenizer()
    value = hard_negatives(*(pooled(model, tokens, part) for part in rows), 20.0)
    value.backward()
    tensors = {"loss": value[None]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tensors["grad." + name.removeprefix("base_model.model.").replace(".default", "")] = parameter.grad
    save(tensors, "contrast")
    print("contrast:", value.item())


def scale_of(name, layers, rate):
    """EVA-CLIP's `get_num_layer_for_vit` and its assigner."""
    name = name.removeprefix("visual.")
    stem = ["patch_embed", "pos_embed", "cls_token", "conv1", "positional_embedding"]
    block = re.search(r"blocks\.(\d+)\.", name)
    number = 0 if any(part in name for part in stem) else int(block[1]) + 1 if block else layers + 1
    return rate ** (layers + 1 - number)


def stage2():
    torch.manual_seed(4)
    model = Model()
    torch.save(model.state_dict(), OUT / "eva.pt")
    preprocess = {"size": [24, 24], "mode": "RGB", "mean": MEAN, "std": STD}
    (OUT / "eva.json").write_text(json.dumps({"model_cfg": EVA_CONFIG, "preprocess_cfg": preprocess}, indent=1) + "\n")
    images = torch.randint(0, 256, (8, 24, 24, 3), dtype=torch.uint8)
    pixels = ((images / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)
    texts = ["a red dog", "two cats sleep on a chair in the sun", "a boat", ""]
    llm = LlamaModel.from_pretrained(CC, dtype=torch.float32).eval()
    with torch.no_grad():
        vectors = pooled(llm, tokenizer(), [("", text) for text in texts])
        tensors = {"images": images, "pooled": vectors, "image": F.normalize(model.visual(pixels), dim=-1),
                   "text": F.normalize(model.text(vectors), dim=-1)}
    (OUT / "texts.json").write_text(json.dumps(texts) + "\n")

    steps, batch, rate, peak = 10, 4, 0.85, 1e-3
    chosen = torch.stack([torch.randperm(8)[:batch] for _ in range(steps)])
    stored = torch.randn(steps, batch, 32)
    groups = []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or name.endswith(("pos_embed", "cls_token"))
        scale = scale_of(name, 2, rate) if name.startswith("visual.") else 1.0
        groups.append({"params": [parameter], "weight_decay": 0.0 if plain else 0.05, "scale": scale})
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.999), eps=1e-8)
    losses, norms = [], []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["scale"] * peak * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps))).item()
        optimizer.zero_grad()
        image = F.normalize(model.visual(pixels[chosen[step]]), dim=-1, eps=1e-12)
        text = F.normalize(model.text(stored[step]), dim=-1, eps=1e-12)
        logits = model.logit_scale.exp() * image @ text.T
        target = torch.arange(batch)
        value = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        value.backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 5.0))
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, 4.605170185988092)
        losses.append(value.detach())
    tensors |= {"chosen": chosen.int(), "vectors": stored, "loss": torch.stack(losses), "grad_norm": torch.stack(norms)}
    for name, parameter in model.named_parameters():
        tensors[f"after.{name}"] = parameter.flatten()[::5]  # every fifth entry
        tensors[f"max.{name}"] = parameter.abs().max()[None]
    save(tensors, "eva")
    print("stage 2:", [round(x.item(), 4) for x in losses], [round(x.item(), 2) for x in norms])


def openai():
    torch.manual_seed(5)
    vision = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=24,
                  patch_size=8, projection_dim=5, hidden_act="quick_gelu")
    tower, text = CLIPVisionModelWithProjection(CLIPVisionConfig(**vision)).eval(), Adapter(6, 5)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.normal_(0, 0.3)
    folder = OUT / "openai"
    folder.mkdir()
    state = {name: value for name, value in tower.state_dict().items() if not name.endswith("position_ids")}
    state |= {name.replace("text_adaptor.", "text_adapter.adaptor."): v for name, v in text.state_dict().items()}
    state["logit_scale"] = torch.tensor(4.25)
    save_file({n: v.contiguous() for n, v in state.items()}, folder / "model.safetensors", {"format": "pt"})
    vision.pop("hidden_act")
    config = {"architectures": ["LLM2CLIPModel"], "model_type": "clip", "projection_dim": 5,
              "logit_scale_init_value": 2.6592, "vision_config": vision, "text_config": {}}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    images, vectors = torch.randn(3, 3, 24, 24), torch.randn(4, 6)
    with torch.no_grad():
        save({"images": images, "vectors": vectors, "image": tower(images).image_embeds, "text": text(vectors)}, "openai")


def rates():
    def names(layers, stem, block, top, where):
        inside = [f"{where}.{i}.{name}" for i in range(layers) for name in block]
        return [f"visual.{name}" for name in stem + inside + top]

    both = lambda name: [f"{name}.weight", f"{name}.bias"]
    flat = lambda parts: [name for part in parts for name in both(part)]
    eva = names(24, ["cls_token", "pos_embed"] + both("patch_embed.proj"),
                flat(["norm1", "attn.q_proj", "attn.v_proj", "attn.inner_attn_ln", "attn.proj", "norm2", "mlp.w1",
                      "mlp.w2", "mlp.ffn_ln", "mlp.w3"]) + ["attn.k_proj.weight"],
                both("norm") + both("head"), "blocks")
    clip = names(12, ["class_embedding", "positional_embedding", "conv1.weight"] + both("ln_pre"),
                 flat(["ln_1", "attn.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"])
                 + ["attn.in_proj_weight", "attn.in_proj_bias"],
                 both("ln_post") + ["proj"], "transformer.resblocks")
    golden = {"EVA02-L-14": {n: round(scale_of(n, 24, 0.85), 12) for n in eva},
              "ViT-B-16": {n: round(scale_of(n, 12, 0.85), 12) for n in clip}}
    (OUT / "rates.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for write in [adapter, loss, contrast, stage2, openai, rates]:
        write()
    print(sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file()), "bytes")


if __name__ == "__main__":
    main()
