"""Inputs that every side makes by itself, to the last bit the same: functions of a place alone, by SplitMix64."""

import numpy as np

START, END = 49406, 49407


def bits(count, offset=0):
    """64 random bits for each place from `offset` on."""
    z = np.arange(offset, offset + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def floats(count, offset=0):
    """In [-2, 2), 24 bits each."""
    return (bits(count, offset) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 22) - np.float32(2)


def pixels(batch, side):
    """Normalised images, `[batch, 3, side, side]`, f32."""
    return floats(batch * 3 * side * side).reshape(batch, 3, side, side)


def samples(batch, side):
    """RGB samples, `[batch, side, side, 3]`, u8."""
    return (bits(batch * side * side * 3) & np.uint64(255)).astype(np.uint8).reshape(batch, side, side, 3)


def ids(batch, context):
    """Texts of 9 to 18 tokens as far as they fit: start, words, end, zeros. `[batch, context]`."""
    rows = np.zeros((batch, context), np.int64)
    words = (bits(batch * context) % np.uint64(START - 1)).astype(np.int64).reshape(batch, context) + 1
    for row in range(batch):
        end = min(8 + row % 10, context - 1)
        rows[row, :end] = words[row, :end]
        rows[row, 0], rows[row, end] = START, END
    return rows


def features(texts, images, dim):
    """Rows of unit length and the image of each text, which its row is a little like."""
    pictures = floats(images * dim).reshape(images, dim)
    owners = np.arange(texts) * images // texts
    captions = floats(texts * dim, offset=images * dim).reshape(texts, dim) + np.float32(0.12) * pictures[owners]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (captions, pictures)]
    return unit[0], unit[1], owners


def fingerprint(rows):
    """A number that is equal where the ids up to the end of each text are."""
    total = 0
    for row in rows:
        row = np.asarray(row, np.int64)
        row = row[: int(np.argmax(row == END)) + 1]
        total += int((row * np.arange(1, len(row) + 1)).sum())
    return total
