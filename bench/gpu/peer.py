"""The work of the GPU benchmark in PyTorch and open_clip. Prints one JSON object per line.

  python bench/gpu/peer.py matmul --precision bf16|f32 [--size 8192]
  python bench/gpu/peer.py train --model ViT-B-32 --batch 256 --precision bf16|f32 [--compile] [--grad-checkpointing]
  python bench/gpu/peer.py infer --model ViT-B-32 --batch 1 --precision bf16|f32 [--compile]

f32 keeps PyTorch's defaults: matrix products without TF32 (the patch embedding is a convolution, where cuDNN may use it).
`--device cpu` with small sizes tries it out.
"""

import argparse
import json
import math
import time
from statistics import median

import open_clip
import torch
from open_clip.loss import ClipLoss

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RUNS, WARMUP, LOOPS, SPLIT_STEPS = 20, 5, 3, 10
VOCAB, PHASES = 49408, ("upload_ms", "forward_ms", "backward_ms", "optimizer_ms")


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(work, device):
    """Median duration of a piece of work."""
    times = []
    for _ in range(WARMUP + RUNS):
        synchronize(device)
        start = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return median(times[WARMUP:])


def matmul(args, device):
    dtype = torch.bfloat16 if args.precision == "bf16" else torch.float32
    a, b = (torch.randn(args.size, args.size, device=device, dtype=dtype) for _ in range(2))
    modes = {args.precision: "highest"}
    if args.precision == "f32" and device.type == "cuda":
        modes["tf32"] = "high"
    for precision, mode in modes.items():
        torch.set_float32_matmul_precision(mode)
        tflops = 2 * args.size**3 / seconds(lambda: a @ b, device) / 1e12
        yield dict(what="matmul", side="pytorch", precision=precision, size=args.size, tflops=round(tflops, 3))


def train(args, device):
    """As open_clip trains with `--precision amp_bf16` or `fp32`."""
    model = open_clip.create_model(args.model, device=device).train()
    model.set_grad_checkpointing(args.grad_checkpointing)
    forward = torch.compile(model) if args.compile else model
    loss_of = ClipLoss()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [dict(params=decayed, weight_decay=0.2), dict(params=rest, weight_decay=0.0)],
        lr=5e-4, betas=(0.9, 0.98), eps=1e-6, fused=device.type == "cuda",
    )
    host_images, host_ids = batch_on_host(model, args.batch, pinned=device.type == "cuda")
    mean, std = (255 * torch.tensor(x, device=device).reshape(3, 1, 1) for x in (MEAN, STD))

    def step(mark=lambda: None):
        images = (host_images.to(device, non_blocking=True).float() - mean) / std
        ids = host_ids.to(device, non_blocking=True)
        mark()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=args.precision == "bf16"):
            loss = loss_of(*forward(images, ids)[:3])
        mark()
        loss.backward()
        mark()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        mark()

    for _ in range(args.warmup):
        step()
    loops = []
    for _ in range(LOOPS):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(args.steps):
            step()
        synchronize(device)
        loops.append((time.perf_counter() - start) / args.steps)
    split = []
    for _ in range(min(SPLIT_STEPS, args.steps)):
        marks = [time.perf_counter()]

        def mark():
            synchronize(device)
            marks.append(time.perf_counter())

        step(mark)
        split.append([1e3 * (end - start) for start, end in zip(marks, marks[1:])])
    yield dict(
        samples_per_s=round(args.batch / median(loops), 2),
        step_ms=round(1e3 * median(loops), 3),
        **{name: round(median(times), 3) for name, times in zip(PHASES, zip(*split))},
        peak_mib=round(torch.cuda.max_memory_reserved() / 2**20) if device.type == "cuda" else None,
    )


def batch_on_host(model, batch, pinned):
    """Random bytes as images; random texts of random lengths, each with an end token."""
    height, width = model.visual.image_size
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    position = torch.arange(model.context_length)
    end = torch.randint(2, model.context_length, (batch, 1))
    ids = torch.randint(1, VOCAB - 2, (batch, model.context_length)) * (position < end)
    ids = ids.masked_fill(position == end, VOCAB - 1).masked_fill(position == 0, VOCAB - 2)
    return (images.pin_memory(), ids.pin_memory()) if pinned else (images, ids)


@torch.no_grad()
def infer(args, device):
    """bf16 weights for bf16, as open_clip's `--precision bf16`: faster than autocast, which casts them every time."""
    precision = {"bf16": "bf16", "f32": "fp32"}[args.precision]
    model = open_clip.create_model(args.model, precision=precision, device=device).eval()
    encode = torch.compile(model.encode_image) if args.compile else model.encode_image
    images = torch.randn(args.batch, 3, *model.visual.image_size, device=device)
    dtype = model.visual.conv1.weight.dtype
    duration = seconds(lambda: encode(images.to(dtype)).cpu(), device)
    yield dict(images_per_s=round(args.batch / duration, 2), batch_ms=round(1e3 * duration, 3))


def described(args, numbers):
    """Says what was measured, or that it did not fit into memory."""
    about = dict(what=args.what, side=f"open_clip {'compile' if args.compile else 'eager'}", model=args.model)
    about |= dict(batch=args.batch, precision=args.precision)
    if args.what == "train":
        about["replay"] = args.grad_checkpointing
    try:
        yield about | next(numbers)
    except RuntimeError as error:
        if "out of memory" not in str(error):
            raise
        yield about | dict(error="out of memory")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    for work in (matmul, train, infer):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("--device", type=torch.device, default=torch.device("cuda"))
        command.add_argument("--precision", choices=("bf16", "f32"), required=True)
        if work is matmul:
            command.add_argument("--size", type=int, default=8192)
            continue
        command.add_argument("--model", default="ViT-B-32")
        command.add_argument("--batch", type=int, required=True)
        command.add_argument("--compile", action="store_true")
        if work is train:
            command.add_argument("--steps", type=int, default=30)
            command.add_argument("--warmup", type=int, default=5)
            command.add_argument("--grad-checkpointing", action="store_true")
    args = parser.parse_args()
    results = args.work(args, args.device)
    for result in results if args.work is matmul else described(args, results):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
