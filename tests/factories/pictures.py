"""Picture files of every kind that people have: modes, shapes, orientations, transparency, 12 bits, large JPEGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SHAPES = ((40, 40), (64, 30), (25, 90), (7, 5), (3, 160), (150, 4), (1, 1))  # (width, height) in pixels
ORIENTATION = 274  # EXIF tag


def scene(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Return a color picture whose parts differ: other crops and orientations of it look different."""
    coarse = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_pictures(folder: Path, n: int, *, seed: int = 0) -> list[Path]:
    """Write `n` pictures, of each kind in turn, and return their paths, sorted. 16-bit values are 0 to 4095."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    kinds = list(KINDS)
    for i in range(n):
        kind = kinds[i % len(kinds)]
        shape = SHAPES[(i // len(kinds)) % len(SHAPES)]
        KINDS[kind](scene(rng, shape), folder / f"{i:03}-{kind.replace('.', '-')}{_suffix(kind)}")
    return sorted(folder.iterdir())


def _suffix(kind: str) -> str:
    return f".{kind.partition('.')[2] or 'png'}"


def _with_alpha(image: Image.Image, mode: str) -> Image.Image:
    ramp = np.linspace(0, 255, image.width, dtype=np.uint8)
    made = image.convert(mode)
    made.putalpha(Image.fromarray(np.tile(ramp, (image.height, 1))))
    return made


def _palette(image: Image.Image, file: Path) -> None:
    reduced = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    reduced.save(file, transparency=2)


def _twelve_bits(image: Image.Image, file: Path) -> None:
    gray = np.asarray(image.convert("L")).astype(np.uint16)
    Image.fromarray(gray * 16 + 7).save(file)


def _large(image: Image.Image, file: Path) -> None:
    """Decoded at a reduced scale, by the draft mode of JPEG."""
    image.resize((image.width * 5, image.height * 5), Image.Resampling.BICUBIC).save(file, quality=90)


def _turned(orientation: int):
    def save(image: Image.Image, file: Path) -> None:
        image.save(file, exif=_exif(orientation), quality=95)

    return save


# kind, with its suffix after a dot (png by default) -> function that writes a picture
KINDS = {
    "rgb": lambda image, file: image.save(file),
    "rgba": lambda image, file: _with_alpha(image, "RGB").save(file),
    "la": lambda image, file: _with_alpha(image, "L").save(file),
    "palette": _palette,
    "gif.gif": lambda image, file: image.save(file),
    "cmyk.jpg": lambda image, file: image.convert("CMYK").save(file, quality=95),
    "gray": lambda image, file: image.convert("L").save(file),
    "bits": lambda image, file: image.convert("1").save(file),
    "twelve": _twelve_bits,
    "twelve.tif": _twelve_bits,
    "large.jpg": _large,
    "webp.webp": lambda image, file: _with_alpha(image, "RGB").save(file, lossless=True),
    "bmp.bmp": lambda image, file: image.save(file),
    **{f"turned{o}.jpg": _turned(o) for o in range(1, 9)},
    "turned6.png": _turned(6),
    "turned8.tif": lambda image, file: image.save(file, exif=_exif(8)),
}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif
