"""Makes tests/fixtures/pixels: tiny images in odd formats with PIL's RGB, and resize, crop, colour references.

Run from the repository root: python tests/reference/pixels.py
Made with Pillow 13.0.0, torch 2.15.0, torchvision 0.29.2, open_clip_torch 3.3.0.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import functional as F

OUT = Path("tests/fixtures/pixels")
rng = np.random.default_rng(0)


def noise(height, width, channels=3):
    """Smooth colours with a little noise, so that every encoder has something to keep."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [128 + 100 * np.sin(x / (3 + c) + y / (7 - c)) for c in range(channels)]
    image = np.stack(planes, -1) + rng.normal(0, 12, (height, width, channels))
    return np.clip(image, 0, 255).astype(np.uint8)


def formats():
    """(file name, bytes) of every kind of file that decoding must know."""
    rgb = Image.fromarray(noise(19, 23))
    gray = rgb.convert("L")
    rgba = Image.fromarray(noise(19, 23, 4))
    cmyk = Image.fromarray(noise(24, 24, 4), "CMYK")
    palette = rgb.quantize(16)
    wide = Image.fromarray((noise(19, 23)[..., 0].astype(np.uint16) * 3))

    def save(image, format, **options):
        buffer = io.BytesIO()
        image.save(buffer, format, **options)
        return buffer.getvalue()

    yield "gray.png", save(gray, "PNG")
    yield "gray_alpha.png", save(rgba.convert("LA"), "PNG")
    yield "rgb.png", save(rgb, "PNG")
    yield "rgba.png", save(rgba, "PNG")
    yield "palette.png", save(palette, "PNG")
    yield "palette_2bit.png", save(rgb.quantize(4), "PNG", bits=2)
    yield "palette_trns.png", save(palette, "PNG", transparency=bytes(range(0, 160, 10)))
    yield "one_bit.png", save(rgb.convert("1"), "PNG")
    yield "gray16.png", save(wide, "PNG")
    yield "rgb16.png", png16(noise(19, 23, 3), color_type=2)
    yield "rgba16.png", png16(noise(19, 23, 4), color_type=6)
    yield "gray_alpha16.png", png16(noise(19, 23, 2), color_type=4)
    yield "rgb.bmp", save(rgb, "BMP")
    yield "palette.bmp", save(palette, "BMP")
    yield "gray.bmp", save(gray, "BMP")
    yield "palette.gif", save(palette, "GIF")
    yield "transparent.gif", save(palette, "GIF", transparency=3)
    yield "animated.gif", save(palette, "GIF", save_all=True, append_images=[rgb.rotate(180).quantize(16)])
    yield "lossless.webp", save(rgb, "WEBP", lossless=True)
    yield "lossless_alpha.webp", save(rgba, "WEBP", lossless=True, exact=True)
    yield "lossy.webp", save(rgb, "WEBP", quality=80)
    yield "gray.jpg", save(gray, "JPEG")
    yield "444.jpg", save(rgb, "JPEG", subsampling=0)
    yield "422.jpg", save(rgb, "JPEG", subsampling=1)
    yield "420.jpg", save(rgb, "JPEG", subsampling=2)
    yield "progressive.jpg", save(rgb, "JPEG", subsampling=2, progressive=True)
    yield "restart.jpg", save(rgb, "JPEG", restart_marker_blocks=2)
    yield "rotated_by_exif.jpg", save(rgb, "JPEG", subsampling=0, exif=rotated())
    yield "cmyk.jpg", save(cmyk, "JPEG", quality=95)
    yield "ycck.jpg", as_ycck(save(cmyk, "JPEG", quality=95))
    yield "narrow.jpg", save(Image.fromarray(noise(37, 1)), "JPEG")
    yield "one_pixel.jpg", save(Image.fromarray(noise(1, 1)), "JPEG")
    yield "one_pixel.png", save(Image.fromarray(noise(1, 1)), "PNG")


def rotated():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def as_ycck(jpeg):
    """Says in the Adobe marker that the four channels are YCCK."""
    at = jpeg.index(b"Adobe") + 11
    return jpeg[:at] + b"\x02" + jpeg[at + 1 :]


def png16(pixels, color_type):
    """A 16-bit PNG, which Pillow cannot write: high byte from `pixels`, low byte noise."""
    import struct
    import zlib

    height, width, channels = pixels.shape
    wide = np.stack([pixels, rng.integers(0, 256, pixels.shape, dtype=np.uint8)], -1)
    rows = b"".join(b"\0" + wide[y].tobytes() for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def pattern(height, width):
    """The test image of the Rust tests: computed there, not stored."""
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return Image.fromarray(((37 * x + 91 * y + 53 * c + 7 * x * y) % 256).astype(np.uint8))


def sha(image):
    return hashlib.sha256(np.asarray(image).tobytes()).hexdigest()


def resizes():
    sizes = [(9, 13), (1, 1), (1, 7), (8, 1), (100, 75), (33, 200), (375, 500)]
    targets = [(5, 7), (4, 5), (14, 20), (1, 1), (9, 40), (64, 13), (224, 224)]
    for source in sizes:
        for target in targets:
            for name in ["bicubic", "bilinear"]:
                image = pattern(*source).resize(target[::-1], getattr(Image.Resampling, name.upper()))
                yield {"source": source, "target": target, "interpolation": name, "sha256": sha(image)}


def transforms():
    sizes = [(9, 13), (100, 75), (33, 200), (101, 100), (1, 1), (64, 48), (10, 300)]
    for source in sizes:
        for size in [32, 31, (24, 40), (40, 24)]:
            for mode in ["shortest", "longest", "squash"]:
                for interpolation in ["bicubic", "bilinear"]:
                    config = PreprocessCfg(
                        size=size, resize_mode=mode, interpolation=interpolation, fill_color=9, mean=(0.0,) * 3, std=(1.0,) * 3
                    )
                    tensor = image_transform_v2(config, is_train=False)(pattern(*source))
                    pixels = (tensor * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
                    yield {
                        "source": source,
                        "config": {"size": size, "resize_mode": mode, "interpolation": interpolation, "fill_color": 9},
                        "sha256": sha(pixels),
                    }


def colors():
    """Colour changes of an image that holds a lot of colours."""
    image = pattern(120, 160)
    for factor in [0.0, 0.25, 0.68, 1.0, 1.32, 2.5]:
        yield {"op": "brightness", "factor": factor, "sha256": sha(F.adjust_brightness(image, factor))}
        yield {"op": "contrast", "factor": factor, "sha256": sha(F.adjust_contrast(image, factor))}
        yield {"op": "saturation", "factor": factor, "sha256": sha(F.adjust_saturation(image, factor))}
    for factor in [-0.5, -0.08, -0.003, 0.0, 0.05, 0.08, 0.5]:
        yield {"op": "hue", "factor": factor, "sha256": sha(F.adjust_hue(image, factor))}
    yield {"op": "grayscale", "factor": 0, "sha256": sha(F.rgb_to_grayscale(image, 3))}


def tables():
    """Antialiased bicubic resize of float tables."""
    for height, width, channels, new_height, new_width in [(3, 4, 2, 6, 5), (5, 5, 1, 3, 2), (4, 4, 1, 4, 4)]:
        table = torch.arange(height * width * channels, dtype=torch.float32).mul(0.7).sin()
        image = table.reshape(1, height, width, channels).permute(0, 3, 1, 2)
        out = torch.nn.functional.interpolate(
            image, (new_height, new_width), mode="bicubic", antialias=True, align_corners=False
        )
        yield {
            "shape": [height, width, channels],
            "new_size": [new_height, new_width],
            "values": [round(v, 7) for v in out.permute(0, 2, 3, 1).flatten().tolist()],
        }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    decoded, pixels = [], b""
    for name, data in formats():
        (OUT / name).write_bytes(data)
        image = Image.open(OUT / name).convert("RGB")
        decoded.append({"file": name, "size": [image.height, image.width]})
        pixels += np.asarray(image).tobytes()
    (OUT / "decoded.rgb").write_bytes(pixels)  # all images of `decoded`, one after the other
    reference = {
        "decoded": decoded,
        "resizes": list(resizes()),
        "transforms": list(transforms()),
        "colors": list(colors()),
        "tables": list(tables()),
    }
    lines = [f'"{key}": ' + json.dumps(value).replace("}, {", "},\n{") for key, value in reference.items()]
    (OUT / "reference.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
