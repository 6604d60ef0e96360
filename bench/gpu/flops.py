"""Floating point operations of training CLIP. `python3 -m doctest bench/gpu/flops.py` checks it.

Counted as usual for the utilisation of a device: matrix products only, causal attention in full, and not the second
forward pass of gradient checkpointing.
"""

# name: (image size, patch, vision width, vision layers, text width, text layers, embedding), from open_clip's configs.
MODELS = {
    "ViT-B-32": (224, 32, 768, 12, 512, 12, 512),
    "ViT-B-16": (224, 16, 768, 12, 512, 12, 512),
    "ViT-L-14": (224, 14, 1024, 24, 768, 12, 768),
    "ViT-S-16": (224, 16, 384, 12, 384, 12, 384),
}
CONTEXT = 77


def flops(model):
    """Of training on one pair: two per multiply-add, the backward pass twice the forward; None if unknown.

    The forward pass alone, in GFLOPs; open_clip's docs/model_profile.csv says the same:

    >>> [round(flops(model) / 3e9, 2) for model in MODELS]
    [14.78, 41.09, 175.33, 12.58]
    """
    if model not in MODELS:
        return None
    size, patch, width, layers, text_width, text_layers, embedding = MODELS[model]

    def blocks(tokens, width, layers):
        """Four projections of attention, an MLP of four times the width, and the two products of attention."""
        return tokens * layers * (12 * width**2 + 2 * tokens * width)

    patches = (size // patch) ** 2
    vision = patches * 3 * patch**2 * width + blocks(patches + 1, width, layers) + width * embedding
    text = blocks(CONTEXT, text_width, text_layers) + text_width * embedding
    return 3 * 2 * (vision + text)
