"""A tiny CLIPS by hand: two encoders, both captioners, the loss of two captions, its gradients, five steps of AdamW.

Run from the root of the repository: python tests/reference/clips.py [--whole]
Writes tests/fixtures/clips/: config.json, model, captioner, captioner_autoregressive, batch, expected,
expected_autoregressive and steps.safetensors, mask.json, sincos.json.

Everything but the steps is computed in float64. To stay small, weights are f16 numbers stored as such (the image's
positions and logit_scale in f32), and of a gradient or trained weight at most SAMPLES entries are stored, as a vector: of
n entries, entry i of the m stored ones is the one at i * n / m, rounded down. --whole stores the same weights in f32 and
all entries, for which the same rule holds.

The encoders are checked with open_clip's CLIP, the captioners' blocks with its Transformer, the contrastive loss and its
gradients with its ClipLoss.
"""

import argparse
import json
import math
from functools import partial
from pathlib import Path

import torch
from open_clip.loss import ClipLoss
from open_clip.model import CLIP
from open_clip.transformer import Transformer
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

OUT = Path("tests/fixtures/clips")
EPS = 1e-6
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
BOS, EOS = 1, 2

CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {
        "image_size": 28, "layers": 2, "width": 16, "head_width": 8, "patch_size": 14, "mlp_ratio": 4.0,
        "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True, "norm_kwargs": {"eps": EPS},
    },
    "text_cfg": {
        "context_length": 10, "vocab_size": 60, "width": 8, "heads": 2, "layers": 2, "pool_type": "last",
        "no_causal_mask": True, "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": EPS},
    },
}
CLASS = CONFIG["text_cfg"]["vocab_size"] - 1
WIDTH, LAYERS, HEADS, QUERIES = 12, 2, 3, 7  # of the captioners
CONTRASTIVE_WEIGHT, CAPTION_WEIGHT = 1.0, 2.0
STEPS, RECIPE = 5, {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8}
DECAY = 0.2
KERNELS = (
    "attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight", "conv1.weight", "visual.proj",
    "text_projection", "image_projection.weight", "captioner.text_projection.weight", "captioner.head.weight",
)
FROZEN = ("visual.positional_embedding",)
SAMPLES = 31  # a prime, so that all columns of a matrix occur


# ---- positions ----------------------------------------------------------------------------------------------------


def sin_cos(width, grid):
    """[grid² + 1, width] in float64: the class first, all zero; then the patches, row by row, the x half before the y half.

    Unlike open_clip's table of the same name, the lowest frequency is 1/10000 itself: the exponent ends at 1.
    """
    bands = width // 4
    frequencies = 10000.0 ** (-torch.arange(bands, dtype=torch.float64) / (bands - 1))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], 1)
    x = axis[None].expand(grid, -1, -1)
    y = axis[:, None].expand(-1, grid, -1)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), torch.cat([x, y], 2).reshape(grid * grid, width)])


# Values that the specification prints: width, grid, row, index, value.
PRINTED = [
    (1024, 16, 2, 0, 0.841471), (1024, 16, 2, 1, 0.821779), (1024, 16, 2, 256, 0.540302), (1024, 16, 2, 512, 0.0),
    (1024, 16, 2, 768, 1.0), (1024, 16, 17, 0, 0.0), (1024, 16, 17, 256, 1.0), (1024, 16, 17, 512, 0.841471),
    (1024, 16, 17, 768, 0.540302), (1024, 16, 256, 0, 0.650288), (1024, 16, 256, 256, -0.759688),
    (1024, 24, 576, 0, -0.846220), (1024, 24, 576, 256, -0.532833), (1280, 16, 2, 1, 0.825755),
]


def sin_cos_samples():
    """The printed entries, and of each table some bands of all four quarters in three rows."""
    wanted = [entry[:4] for entry in PRINTED]
    for width, grid in [(1024, 16), (1024, 24), (1280, 16)]:
        bands = width // 4
        wanted.append((width, grid, 0, bands))
        for row, offset in [(2, bands - 1), (5 * grid + 8, 1), (grid * grid, 9)]:
            wanted += [(width, grid, row, quarter * bands + offset) for quarter in range(4)]
    tables = {shape: sin_cos(*shape) for shape in {entry[:2] for entry in wanted}}
    rows = [
        {"width": width, "grid": grid, "row": row, "index": index, "value": tables[width, grid][row, index].item()}
        for width, grid, row, index in dict.fromkeys(wanted)
    ]
    for row, (*_, printed) in zip(rows, PRINTED):
        assert abs(row["value"] - printed) <= 1e-6, row
    return rows


# ---- the network, as functions of a dictionary of weights ---------------------------------------------------------


def norm(x, weights, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], EPS)


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def attention(x, weights, name, heads, allow):
    batch, seq, width = x.shape
    qkv = x @ weights[f"{name}.in_proj_weight"].T + weights[f"{name}.in_proj_bias"]
    q, k, v = qkv.reshape(batch, seq, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.mT / math.sqrt(width // heads)
    if allow is not None:
        scores = scores.masked_fill(~allow, -math.inf)
    x = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, seq, width)
    return linear(x, weights, f"{name}.out_proj")


def blocks(x, weights, prefix, layers, heads, approximate, allow=None):
    for layer in range(layers):
        block = f"{prefix}transformer.resblocks.{layer}"
        x = x + attention(norm(x, weights, f"{block}.ln_1"), weights, f"{block}.attn", heads, allow)
        hidden = linear(norm(x, weights, f"{block}.ln_2"), weights, f"{block}.mlp.c_fc")
        x = x + linear(F.gelu(hidden, approximate=approximate), weights, f"{block}.mlp.c_proj")
    return x


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def normalized(pixels, dtype):
    """u8 [batch, height, width, 3] to [batch, 3, height, width]."""
    mean, std = torch.tensor(MEAN, dtype=dtype), torch.tensor(STD, dtype=dtype)
    return ((pixels.to(dtype) / 255 - mean) / std).permute(0, 3, 1, 2)


def encode_image(weights, config, images):
    """Unit embeddings, and the patches' states that a captioner reads: neither the class nor a norm."""
    vision = config["vision_cfg"]
    width, patch = vision["width"], vision["patch_size"]
    x = F.conv2d(images, weights["visual.conv1.weight"], stride=patch).flatten(2).mT
    x = torch.cat([weights["visual.class_embedding"].expand(len(x), 1, -1), x], 1)
    x = x + weights["visual.positional_embedding"]
    x = blocks(x, weights, "visual.", vision["layers"], width // vision.get("head_width", 64), "none")
    patches = x[:, 1:]
    # The class token took part in the attention, and that is all.
    pooled = norm(patches.mean(1), weights, "visual.ln_post")
    return unit(pooled @ weights["visual.proj"]), patches


def encode_text(weights, config, ids):
    """Unit embeddings, and the states of all positions but the last, padding included, before the final norm."""
    text = config["text_cfg"]
    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"]
    x = blocks(x, weights, "", text["layers"], text["heads"], "tanh")
    pooled = norm(x[:, -1], weights, "ln_final")
    return unit(pooled @ weights["text_projection"]), x[:, :-1]


def mask(prefix, queries):
    """True where a row may read a column: everyone the prefix, queries themselves and earlier ones."""
    column = torch.arange(prefix + queries)
    return (column < prefix) | (column[:, None] >= prefix) & (column <= column[:, None])


def caption_logits(captioner, patches, words, targets):
    """[batch, queries, vocabulary] from the states of both encoders; only the autoregressive decoder reads targets."""
    if "learnable_tokens" in captioner:
        read = captioner["learnable_tokens"].expand(len(patches), -1, -1)
    else:
        shifted = torch.cat([torch.full_like(targets[:, :1], BOS), targets[:, :-1]], 1)
        read = captioner["token_embedding.weight"][shifted] + captioner["positional_embedding"]
    image, text = patches @ captioner["image_projection.weight"].T, words @ captioner["text_projection.weight"].T
    prefix = image.shape[1] + text.shape[1]
    x = torch.cat([image, text, read], 1)
    x = blocks(x, captioner, "", LAYERS, HEADS, "tanh", mask(prefix, read.shape[1]))
    return norm(x[:, prefix:], captioner, "ln_final") @ captioner["head.weight"].T


def nce(images, texts, scale):
    """Both directions of one kind of captions."""
    logits, labels = scale * images @ texts.T, torch.arange(len(images))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def caption_loss(logits, targets, lengths):
    """Mean over the real tokens of the whole batch; the closing token counts."""
    valid = (torch.arange(targets.shape[1]) < lengths[:, None]).to(logits.dtype)
    surprise = -logits.log_softmax(-1).gather(2, targets[..., None])[..., 0]
    return (valid * surprise).sum() / (valid.sum() + 1e-8)


def forward(weights, batch):
    """Everything that a training step computes, by name."""
    dtype = weights["logit_scale"].dtype
    captioner = {name.removeprefix("captioner."): w for name, w in weights.items() if name.startswith("captioner.")}
    image, patches = encode_image(weights, CONFIG, normalized(batch["pixels"], dtype))
    # One pass for both kinds of texts, web captions first; the captioner reads the web captions only.
    texts, words = encode_text(weights, CONFIG, torch.cat([batch["web"], batch["sub"]]))
    web, sub = texts.chunk(2)
    logits = caption_logits(captioner, patches, words[: len(web)], batch["targets"])
    scale = weights["logit_scale"].exp()
    web_loss, sub_loss = nce(image, web, scale), nce(image, sub, scale)
    contrastive = (web_loss + sub_loss) / 2
    caption = caption_loss(logits, batch["targets"], batch["lengths"])
    loss = CONTRASTIVE_WEIGHT * contrastive + CAPTION_WEIGHT * caption
    return {
        "image": image, "web": web, "sub": sub, "logits": logits, "web_loss": web_loss, "sub_loss": sub_loss,
        "contrastive": contrastive, "caption": caption, "loss": loss,
    }


# ---- weights and a batch ------------------------------------------------------------------------------------------


def block_shapes(prefix, layers, width):
    for layer in range(layers):
        block = f"{prefix}transformer.resblocks.{layer}"
        yield from {
            f"{block}.ln_1.weight": [width], f"{block}.ln_1.bias": [width],
            f"{block}.attn.in_proj_weight": [3 * width, width], f"{block}.attn.in_proj_bias": [3 * width],
            f"{block}.attn.out_proj.weight": [width, width], f"{block}.attn.out_proj.bias": [width],
            f"{block}.ln_2.weight": [width], f"{block}.ln_2.bias": [width],
            f"{block}.mlp.c_fc.weight": [4 * width, width], f"{block}.mlp.c_fc.bias": [4 * width],
            f"{block}.mlp.c_proj.weight": [width, 4 * width], f"{block}.mlp.c_proj.bias": [width],
        }.items()


def captioner_shapes(autoregressive):
    vision, text = CONFIG["vision_cfg"]["width"], CONFIG["text_cfg"]["width"]
    vocabulary = CONFIG["text_cfg"]["vocab_size"]
    reads = {"learnable_tokens": [QUERIES, WIDTH]}
    if autoregressive:
        reads = {"token_embedding.weight": [vocabulary, WIDTH], "positional_embedding": [QUERIES, WIDTH]}
    return {
        "image_projection.weight": [WIDTH, vision], "text_projection.weight": [WIDTH, text], **reads,
        **dict(block_shapes("", LAYERS, WIDTH)),
        "ln_final.weight": [WIDTH], "ln_final.bias": [WIDTH], "head.weight": [vocabulary, WIDTH],
    }


def random_weight(name, shape, generator):
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    gain = name.endswith(("ln_1.weight", "ln_2.weight", "ln_post.weight", "ln_final.weight"))
    if gain:
        return 1 + 0.1 * noise
    # A patch has 588 pixels: with more, its embedding would drown what the blocks add.
    return (0.05 if name.endswith("conv1.weight") else 0.3) * noise


def stored(tensors, whole):
    """What the files hold: f16 numbers, except the two that a reader may compute itself."""
    exact = (*FROZEN, "logit_scale")
    half = {name: tensor.half() if name not in exact else tensor.float() for name, tensor in tensors.items()}
    return {name: tensor.float() if whole else tensor for name, tensor in half.items()}


def encoder_weights(generator):
    shapes = {name: list(tensor.shape) for name, tensor in CLIP(**CONFIG).state_dict().items()}
    weights = {name: random_weight(name, shape, generator) for name, shape in shapes.items()}
    vision = CONFIG["vision_cfg"]
    grid = vision["image_size"] // vision["patch_size"]
    weights["visual.positional_embedding"] = sin_cos(vision["width"], grid)
    weights["logit_scale"] = torch.tensor(math.log(1 / 0.07), dtype=torch.float64)
    return weights


def captioner_weights(autoregressive, generator):
    return {name: random_weight(name, shape, generator) for name, shape in captioner_shapes(autoregressive).items()}


def frame(pieces, length, class_id):
    """A text for the encoder: the class token stands last, after the padding."""
    row = [BOS, *pieces[: length - 3], EOS]
    return row + [0] * (length - 1 - len(row)) + [class_id]


def target(pieces, length):
    """A caption for the decoder: what follows [bos], and how many tokens count."""
    row = [BOS, *pieces, EOS][:length]
    if len(row) == length:
        row[-1] = EOS
    return row[1:] + [0] * (length - len(row) + 1), len(row) - 1


def make_batch(generator):
    vocabulary, context = CONFIG["text_cfg"]["vocab_size"], CONFIG["text_cfg"]["context_length"]
    size = CONFIG["vision_cfg"]["image_size"]
    words = lambda count: torch.randint(3, vocabulary - 1, (count,), generator=generator).tolist()
    texts = lambda counts: torch.tensor([frame(words(count), context, CLASS) for count in counts])
    # The last of the web captions and the fourth caption to generate are cut.
    web, sub = texts([3, 0, 7, 5, 1, 9]), texts([2, 4, 1, 6, 0, 3])
    targets, lengths = zip(*(target(words(count), QUERIES) for count in [4, 0, 2, 9, 5, 1]))
    pixels = torch.randint(0, 256, (len(web), size, size, 3), generator=generator, dtype=torch.uint8)
    return {"pixels": pixels, "web": web, "sub": sub, "targets": torch.tensor(targets), "lengths": torch.tensor(lengths)}


# ---- results ------------------------------------------------------------------------------------------------------


def parameters(model, captioner, dtype):
    """Leaves under the names of the results."""
    tensors = model | {f"captioner.{name}": tensor for name, tensor in captioner.items()}
    return {name: w.to(dtype).detach().clone().requires_grad_(name not in FROZEN) for name, w in tensors.items()}


def gradients(value, weights):
    """Without those that `value` does not depend on."""
    names = [name for name in weights if name not in FROZEN]
    found = torch.autograd.grad(value, [weights[name] for name in names], retain_graph=True, allow_unused=True)
    return {name: gradient for name, gradient in zip(names, found) if gradient is not None and gradient.any()}


def sampled(tensor, samples):
    values = tensor.detach().flatten()
    count = min(len(values), samples)
    return values[torch.arange(count) * len(values) // count]


def results(weights, batch, samples):
    out = forward(weights, batch)
    named = {name: value.reshape(1) if value.ndim == 0 else value for name, value in out.items()}
    whole, caption = gradients(out["loss"], weights), gradients(out["caption"], weights)
    named |= {f"grad.{name}": sampled(value, samples) for name, value in whole.items()}
    named |= {f"caption_grad.{name}": sampled(value, samples) for name, value in caption.items()}
    untouched = sorted(set(weights) - set(caption) - set(FROZEN))
    assert set(whole) == set(weights) - set(FROZEN)
    return named, {"without_caption_grad": json.dumps(untouched)}


def train(weights, batch):
    decayed = [weight for name, weight in weights.items() if name.endswith(KERNELS)]
    plain = [weight for name, weight in weights.items() if not name.endswith(KERNELS) and name not in FROZEN]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": plain, "weight_decay": 0.0}]
    optimizer, losses = torch.optim.AdamW(groups, **RECIPE), []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = forward(weights, batch)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses


def trained(model, captioner, batch, samples):
    """In f32; says how far that is from float64. Without the biases of q, k and v."""
    weights, precise = (parameters(model, captioner, dtype) for dtype in (torch.float32, torch.float64))
    losses, reference = train(weights, batch), train(precise, batch)
    # The softmax does not see the bias of the keys: its gradient is rounding alone, which AdamW blows up to whole steps.
    noisy = [name for name in weights if name.endswith("in_proj_bias")]
    named = {f"loss.{step}": loss.reshape(1) for step, loss in enumerate(losses)}
    named |= {f"final.{name}": sampled(weight, samples) for name, weight in weights.items() if name not in noisy}
    distances = {name: (weight.double() - precise[name]).detach().abs() for name, weight in weights.items()}
    keys = max(distances[name].chunk(3)[1].max() for name in noisy)
    worst = max(distances.keys() - set(noisy), key=lambda name: distances[name].max())
    print("losses of the steps:", [round(loss.item(), 6) for loss in losses])
    print(
        f"f32 from float64 after {STEPS} steps: losses {max(abs(a - b) for a, b in zip(losses, reference)):.1e}, weights"
        f" {distances[worst].max():.1e} ({worst}), biases of keys {keys:.1e}"
    )
    return named, {"left_out": json.dumps(noisy), "optimizer": json.dumps(RECIPE | {"weight_decay": DECAY})}


# ---- checks -------------------------------------------------------------------------------------------------------


def difference(a, b):
    return (a - b).abs().max().item()


def check_encoders(model, batch):
    """open_clip builds the same encoders from config.json, and its loss and gradients are the same."""
    theirs = CLIP(**CONFIG).double().eval()
    theirs.load_state_dict(model, strict=True)
    ours = parameters(model, {}, torch.float64)
    images = normalized(batch["pixels"], torch.float64)
    pairs, losses = [], []
    image = theirs.encode_image(images, normalize=True), encode_image(ours, CONFIG, images)[0]
    pairs.append(image)
    for kind in ("web", "sub"):
        text = theirs.encode_text(batch[kind], normalize=True), encode_text(ours, CONFIG, batch[kind])[0]
        pairs.append(text)
        loss = ClipLoss()(image[0], text[0], theirs.logit_scale.exp())
        losses.append((loss, nce(image[1], text[1], ours["logit_scale"].exp())))
    features = max(difference(*pair) for pair in pairs)
    loss = max(difference(*pair) for pair in losses)
    sum(loss for loss, _ in losses).backward()
    sum(loss for _, loss in losses).backward()
    # Once in open_clip the positions of the image are a parameter like others; here they are fixed.
    pairs = [(parameter.grad, ours[name].grad) for name, parameter in theirs.named_parameters() if name not in FROZEN]
    gradient = max(difference(*pair) for pair in pairs)
    print(f"open_clip: embeddings differ by {features:.1e}, losses by {loss:.1e}, gradients by {gradient:.1e}")
    assert max(features, loss, gradient) < 1e-6


def check_captioner(captioner):
    """The decoder's blocks are open_clip's, with the same mask; nobody sees a later query."""
    captioner = {name: tensor.double() for name, tensor in captioner.items()}
    theirs = Transformer(
        WIDTH, LAYERS, HEADS, act_layer=partial(nn.GELU, approximate="tanh"), norm_layer=partial(nn.LayerNorm, eps=EPS)
    ).double()
    prefix = "transformer."
    theirs.load_state_dict({name.removeprefix(prefix): w for name, w in captioner.items() if name.startswith(prefix)})
    generator = torch.Generator().manual_seed(5)
    prefix = 13  # four patches, nine words
    x = torch.randn(2, prefix + QUERIES, WIDTH, generator=generator, dtype=torch.float64)
    allow = mask(prefix, QUERIES)
    blocked = torch.zeros(allow.shape, dtype=torch.float64).masked_fill(~allow, -math.inf)
    ours = partial(blocks, weights=captioner, prefix="", layers=LAYERS, heads=HEADS, approximate="tanh", allow=allow)
    differ = difference(theirs(x, attn_mask=blocked), ours(x))
    changed = x.clone()
    changed[:, prefix + 3] += 1
    moved = (ours(changed) - ours(x)).abs().amax((0, 2)) > 0
    assert moved.tolist() == [False] * (prefix + 3) + [True] * 4
    print(f"open_clip's Transformer as captioner: states differ by {differ:.1e}")
    assert differ < 1e-10


def check_routing(model, captioners, batch):
    """What reads targets, and what the caption loss trains."""
    for autoregressive, captioner in enumerate(captioners):
        weights = parameters(model, captioner, torch.float64)
        logits = forward(weights, batch)["logits"]
        other = dict(batch, targets=batch["targets"].clone())
        other["targets"][:, 2] = 7
        moved = (forward(weights, other)["logits"] - logits).abs().amax((0, 2)) > 0
        assert moved.tolist() == [bool(autoregressive) and k >= 3 for k in range(QUERIES)]
        other = dict(batch, sub=batch["web"])
        assert torch.equal(forward(weights, other)["logits"], logits), "sub-captions reach the captioner"
        same = forward(weights, other)
        assert torch.equal(same["contrastive"], same["web_loss"])
        untouched = set(weights) - set(gradients(forward(weights, batch)["caption"], weights)) - set(FROZEN)
        final = {f"{name}.{kind}" for name in ("visual.ln_post", "ln_final") for kind in ("weight", "bias")}
        assert untouched == final | {"visual.proj", "text_projection", "logit_scale"}, untouched


def save(name, tensors, metadata=None):
    plain = lambda t: t.float() if t.dtype == torch.float64 else t
    tensors = {key: plain(tensor.detach()).clone().contiguous() for key, tensor in tensors.items()}
    save_file(tensors, OUT / f"{name}.safetensors", metadata=metadata)


def write_json(name, value):
    """A list has one line for each entry."""
    rows = value if isinstance(value, list) else None
    text = json.dumps(value, indent=1) if rows is None else "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]"
    (OUT / f"{name}.json").write_text(text + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="weights in f32, all entries of gradients: some 700 kB")
    whole = parser.parse_args().whole
    samples = 10**6 if whole else SAMPLES
    torch.set_num_threads(1)
    OUT.mkdir(parents=True, exist_ok=True)
    model = stored(encoder_weights(torch.Generator().manual_seed(0)), whole)
    captioners = []
    for autoregressive in (False, True):
        generator = torch.Generator().manual_seed(1 + autoregressive)
        captioners.append(stored(captioner_weights(autoregressive, generator), whole))
    batch = make_batch(torch.Generator().manual_seed(3))
    print("lengths of the targets:", batch["lengths"].tolist())

    check_encoders(model, batch)
    for captioner in captioners:
        check_captioner(captioner)
    check_routing(model, captioners, batch)
    rows = ["".join(str(int(allowed)) for allowed in row) for row in mask(2, 3)]
    assert rows == ["11000", "11000", "11100", "11110", "11111"]

    write_json("config", CONFIG)
    write_json("mask", {"prefix": 2, "queries": 3, "allow": rows})
    write_json("sincos", sin_cos_samples())
    save("model", model)
    save("batch", batch)
    for suffix, captioner in zip(("", "_autoregressive"), captioners):
        save(f"captioner{suffix}", captioner)
        named, metadata = results(parameters(model, captioner, torch.float64), batch, samples)
        save(f"expected{suffix}", named, metadata)
        scalars = {name: round(value.item(), 6) for name, value in named.items() if value.shape == (1,) and "." not in name}
        print(f"expected{suffix}:", scalars)
    save("steps", *trained(model, captioners[0], batch, samples))
    sizes = {path.name: path.stat().st_size for path in sorted(OUT.iterdir())}
    print(sizes, "together", sum(sizes.values()))


if __name__ == "__main__":
    main()
