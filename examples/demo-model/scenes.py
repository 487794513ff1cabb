"""Draw the little pictures the demo model learns to read.

A scene is either one handwritten digit (a real one, from scikit-learn's bundled data set) or one to
four flat shapes of one kind and colour, on a plain ground.  It is drawn on a canvas of random size
and aspect ratio and then resized to 64x64 without cropping, which is what a server does as well.
"""
from __future__ import annotations

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import Pool

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SIDE = 64
SHAPES = ["circle", "square", "triangle"]
KINDS = SHAPES + ["digit"]
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "black", "white"]
GROUNDS = ["white", "black", "gray", "yellow", "blue"]
# Digits are dark on white or light on black.
DIGIT_COLOURS = {"white": ["red", "green", "blue", "purple", "black"], "black": ["white", "yellow", "orange"]}

# Two reference values per colour; a scene takes a random point between them, plus a little jitter.
PALETTE = {
    "red": ((255, 0, 0), (205, 35, 40)),
    "green": ((0, 190, 0), (35, 135, 60)),
    "blue": ((0, 0, 255), (45, 95, 215)),
    "yellow": ((255, 255, 0), (245, 210, 45)),
    "purple": ((128, 0, 128), (145, 65, 185)),
    "orange": ((255, 165, 0), (240, 125, 25)),
    "black": ((0, 0, 0), (30, 30, 30)),
    "white": ((255, 255, 255), (238, 238, 238)),
    "gray": ((128, 128, 128), (150, 150, 150)),
}
# Pairs too close to tell apart at 64x64 after noise and JPEG.
TOO_CLOSE = {
    frozenset(p)
    for p in [("red", "orange"), ("orange", "yellow"), ("yellow", "white"), ("blue", "purple"), ("black", "purple"),
              ("black", "blue"), ("red", "purple"), ("green", "gray"), ("purple", "gray")]
}


@dataclass(frozen=True)
class Scene:
    """What is true of a picture; `count` is 1 and `value` the number for a digit, else `value` is -1."""

    kind: str
    colour: str
    ground: str
    count: int = 1
    value: int = -1


@lru_cache(maxsize=None)
def digit_split():
    """The 8x8 digits (0..1 floats) and labels, split into train and held-out parts."""
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).reshape(-1, 8, 8).astype(np.float32)
    a, b, ya, yb = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return {"train": (a, ya), "heldout": (b, yb)}


def random_scene(rng, digit_share=0.42):
    """Draw the facts of a scene at random."""
    if rng.random() < digit_share:
        ground = "white" if rng.random() < 0.65 else "black"
        return Scene("digit", str(rng.choice(DIGIT_COLOURS[ground])), ground, 1, int(rng.integers(10)))
    while True:
        colour, ground = str(rng.choice(COLOURS)), str(rng.choice(GROUNDS))
        if colour != ground and frozenset((colour, ground)) not in TOO_CLOSE:
            break
    return Scene(str(rng.choice(SHAPES)), colour, ground, int(rng.integers(1, 5)))


def random_canvas(rng, low=64, high=360, widest=16 / 9):
    """A canvas size between 1:1 and `widest`, landscape more often than portrait."""
    short = int(round(math.exp(rng.uniform(math.log(low), math.log(high)))))
    ratio = 1.0 if rng.random() < 0.3 else rng.uniform(1.0, widest)
    long = int(round(short * ratio))
    return (short, long) if rng.random() < 0.1 else (long, short)


def tint(rng, name):
    """A concrete RGB value for a colour name."""
    a, b = (np.array(c, float) for c in PALETTE[name])
    t = rng.random() if rng.random() < 0.7 else 0.0
    return tuple(int(v) for v in np.clip(a + (b - a) * t + rng.uniform(-10, 10, 3), 0, 255))


def corners(kind, cx, cy, r, angle):
    """The corner points of a square or triangle of outer radius r."""
    n, start = (4, math.pi / 4) if kind == "square" else (3, -math.pi / 2)
    turns = [start + angle + 2 * math.pi * i / n for i in range(n)]
    return [(cx + r * math.cos(a), cy + r * math.sin(a)) for a in turns]


def layout(rng, count, width, height):
    """Centres and radii of shapes that do not touch: one anywhere, more in random cells of a loose grid."""
    short = min(width, height)
    if count == 1:
        r = rng.uniform(0.19, 0.36) * short
        return [(rng.uniform(r, width - r), rng.uniform(r, height - r), r)]
    grids = [(columns, rows) for columns, rows in ((2, 2), (count, 1), (1, count))
             if columns * rows >= count and min(width / columns, height / rows) >= 0.33 * short]
    columns, rows = grids[rng.integers(len(grids))]
    w, h = width / columns, height / rows
    radius, done = min(rng.uniform(0.34, 0.42) * min(w, h), 0.23 * short), []
    for cell in rng.permutation(columns * rows)[:count]:
        r = radius * rng.uniform(0.94, 1.0)
        x, y = (rng.uniform(r * 1.15, side - r * 1.15) for side in (w, h))
        done.append((cell % columns * w + x, cell // columns * h + y, r))
    return done


def draw_shapes(rng, scene, image, fill):
    """Paint the scene's shapes onto the image; their boxes (left, top, right, bottom) come back."""
    pen, boxes = ImageDraw.Draw(image), []
    for x, y, r in layout(rng, scene.count, *image.size):
        boxes.append((x - r * 0.8, y - r * 0.8, x + r * 0.8, y + r * 0.8))
        if scene.kind == "circle":
            r *= 0.92
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)
        else:
            pen.polygon(corners(scene.kind, x, y, r, math.radians(rng.uniform(-10, 10))), fill=fill)
    return boxes


def draw_digit(rng, image, pixels, fill):
    """Blend one 8x8 digit, enlarged smoothly, slightly turned and stretched, onto the middle of the image; its box comes back."""
    width, height = image.size
    size = int(min(width, height) * rng.uniform(0.82, 0.98))
    w, h = max(16, int(size * rng.uniform(0.8, 1.0))), max(16, size)
    mask = np.pad(pixels ** rng.uniform(0.8, 1.25), 1)
    mask = Image.fromarray((mask * 255).astype(np.uint8)).resize((80, 80), Image.BICUBIC)
    turn, shear = math.radians(rng.uniform(-7, 7)), rng.uniform(-0.1, 0.1)
    a, b, c, d = math.cos(turn), math.sin(turn) + shear, -math.sin(turn), math.cos(turn)
    mask = mask.transform((80, 80), Image.AFFINE, (a, b, 40 - 40 * (a + b), c, d, 40 - 40 * (c + d)), Image.BILINEAR)
    mask = np.asarray(mask.resize((w, h), Image.BICUBIC), np.float32) / 255
    low = rng.uniform(0.15, 0.3)
    mask = np.clip((mask - low) / rng.uniform(0.3, 0.5), 0, 1)
    at = tuple(int((space - own) / 2 + space * rng.uniform(-0.05, 0.05)) for space, own in ((width, w), (height, h)))
    image.paste(Image.new("RGB", (w, h), fill), at, Image.fromarray((mask * 255).astype(np.uint8)))
    return [(at[0], at[1], at[0] + w, at[1] + h)]


def render(rng, scene, size, digits, rough=True):
    """Draw a scene on a canvas of the given (width, height).  `rough` adds noise and JPEG artefacts.

    Comes back with the boxes of the objects, in pixels of the canvas."""
    image = Image.new("RGB", size, tint(rng, scene.ground))
    if scene.kind == "digit":
        images, labels = digits
        choice = images[rng.choice(np.flatnonzero(labels == scene.value))]
        boxes = draw_digit(rng, image, choice, tint(rng, scene.colour))
    else:
        boxes = draw_shapes(rng, scene, image, tint(rng, scene.colour))
    if rough and rng.random() < 0.3:
        noise = rng.normal(0, rng.uniform(2, 7), (size[1], size[0], 1 if rng.random() < 0.5 else 3))
        image = Image.fromarray(np.clip(np.asarray(image, np.float32) + noise, 0, 255).astype(np.uint8))
    if rough and rng.random() < 0.2:
        data = io.BytesIO()
        image.save(data, "JPEG", quality=int(rng.integers(60, 95)))
        image = Image.open(data).convert("RGB")
    return image, boxes


def shrink(image, method=Image.BICUBIC):
    """The whole preprocessing apart from scaling to -1..1: resize to 64x64, no crop."""
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), method), np.uint8)


def patch_map(scene, boxes, size):
    """What lies under each of the 8x8 patches: 0 ground, then the shapes, then the digits; +32 at a centre."""
    grid = np.zeros((8, 8), np.uint8)
    middle = (np.arange(8) + 0.5) / 8
    label = 1 + (len(SHAPES) + scene.value if scene.kind == "digit" else SHAPES.index(scene.kind))
    for left, top, right, bottom in boxes:
        x, y = middle * size[0], middle * size[1]
        grid[np.ix_((y > top) & (y < bottom), (x > left) & (x < right))] |= label
    for left, top, right, bottom in boxes:
        row, column = int((top + bottom) / 2 / size[1] * 8), int((left + right) / 2 / size[0] * 8)
        grid[row, column] = label + 32
    return grid


def _make(job):
    seed, number, part = job
    rng, digits = np.random.default_rng(seed), digit_split()[part]
    facts, pixels = [], np.empty((number, SIDE, SIDE, 3), np.uint8)
    maps = np.empty((number, 8, 8), np.uint8)
    methods = [Image.BICUBIC] * 3 + [Image.BILINEAR, Image.LANCZOS, Image.HAMMING]
    for i in range(number):
        scene = random_scene(rng)
        widest = 4 / 3 if scene.kind == "digit" else 16 / 9
        canvas = random_canvas(rng, high=256 if part == "train" else 512, widest=widest)
        image, boxes = render(rng, scene, canvas, digits)
        pixels[i] = shrink(image, methods[rng.integers(len(methods))] if part == "train" else Image.BICUBIC)
        maps[i] = patch_map(scene, boxes, image.size)
        facts.append(scene)
    return facts, pixels, maps


def make_pool(number, part, seed, workers=2):
    """Many scenes and their 64x64 pictures: (list of Scene, uint8 [number, 64, 64, 3], patch maps)."""
    chunk = 500
    jobs = [(seed * 100_000 + i, min(chunk, number - i * chunk), part) for i in range((number + chunk - 1) // chunk)]
    with Pool(workers) as pool:
        parts = pool.map(_make, jobs)
    facts, pixels, maps = zip(*parts)
    return [s for f in facts for s in f], np.concatenate(pixels), np.concatenate(maps)
