"""Decode an image file into an array of a given size. Needs only numpy and Pillow, and pydicom for DICOM files.

`decode` is the whole preprocessing of a model: every command reads files by it, and exports contain this file, so that
other programs prepare images in the same way.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

VERSION = 2  # of the results: images that were resized by another version are read again
FULL_RANGE = (0.0, 65_535.0)  # of 16 bits
Interpolation = Literal["bilinear", "bicubic", "lanczos"]  # all antialiased
RESAMPLING: Final = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
DICOM_SUFFIXES = frozenset({".dcm", ".dicom"})
# Larger images are refused, as decoding may need 8 bytes per pixel; Pillow refuses them with an error, too
MAX_PIXELS = 178_956_970
_REDUCED = MAX_PIXELS // 2  # pixels: larger images are reduced right after decoding
_INTACT = "Replace it by an intact copy, or remove it."
# Exceptions of Pillow's decoders on damaged files
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)
# Excluded: EPS, which is a program that Pillow passes to Ghostscript, and formats without a decoder
_EXCLUDED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})


class DecodingError(ValueError):
    """Raised when a file cannot be decoded; `advice` says what to do."""

    def __init__(self, reason: str, advice: str = _INTACT) -> None:
        super().__init__(reason)
        self.advice = advice


@cache
def formats() -> tuple[str, ...]:
    """Return the names of the formats that are decoded, except DICOM."""
    Image.init()
    return tuple(sorted(Image.OPEN.keys() - _EXCLUDED))


def decode(
    file: Path | BinaryIO,
    *,
    size: int | tuple[int, int],
    channels: int,
    value_range: tuple[float, float] | None = None,
    interpolation: Interpolation = "bicubic",
) -> NDArray[np.uint8]:
    """Return an image as an array, uint8 (channels, height, width).

    The image is rotated as its EXIF orientation says, cropped to its central part of the target shape, and resized.
    Transparent pixels become white. Of an animation or a file with several pages, the first is read.

    Args:
        file: path, open file or buffer.
        size: (height, width) in pixels, or one number for both.
        channels: 1 (gray) or 3 (red, green, blue).
        value_range: values of pixels with more than 8 bits that become 0 and 255. None: the range that the file
            declares, or else 0 to 65535. Pixels of 8 bits stay as they are.
        interpolation: with which the image is resized.

    Raises:
        DecodingError: if the file cannot be read as an image.
    """
    mode = "RGB" if channels == 3 else "L"
    height, width = (size, size) if isinstance(size, int) else size
    with opened(file) as image:
        # JPEGs of at least twice the size are decoded at a reduced scale, which is cheaper
        image.draft(mode, (2 * width, 2 * height))
        used = _usable_range(image, value_range)
        eight_bits = _to_eight_bits(ImageOps.exif_transpose(image), used)
        upright = _on_white(_reduced(eight_bits)).convert(mode)
        fitted = ImageOps.fit(upright, (width, height), method=RESAMPLING[interpolation])
    pixels: NDArray[np.uint8] = np.asarray(fitted, dtype=np.uint8)
    return pixels[np.newaxis] if channels == 1 else pixels.transpose(2, 0, 1)


@contextmanager
def opened(file: Path | BinaryIO) -> Iterator[Image.Image]:
    """Open an image, translating the exceptions of decoders inside the block into DecodingError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if _is_dicom(file):
                yield _open_dicom(file)
                return
            with Image.open(file, formats=formats()) as image:
                yield image
    except DecodingError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except UnidentifiedImageError as error:
        raise _unknown(file) from error
    except _DAMAGED as error:
        system = error.strerror if isinstance(error, OSError) else None
        reason = system or str(error).replace(str(file), "").strip() or type(error).__name__
        raise DecodingError(" ".join(reason.split()).rstrip(".")) from error


def is_wide(image: Image.Image) -> bool:
    """Return whether the pixels are single values of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def is_truncated(image: Image.Image) -> bool:
    """Return whether the file has several channels of 16 bits each, of which Pillow decodes the upper 8 bits."""
    return not is_wide(image) and ";16" in _raw_mode(image)


def declared_range(image: Image.Image) -> tuple[float, float] | None:
    """Return the range of pixel values that the file declares, or None if it declares none.

    The chunk sBIT of PNG is no such range: by the standard, values of fewer bits are stored scaled to all 16.
    """
    if "value_range" in image.info:  # DICOM
        return image.info["value_range"]  # type: ignore[no-any-return]
    if image.mode == "F" or not is_wide(image):
        return None
    if _raw_mode(image) == "I;12":
        return 0.0, 4095.0
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        low, high = (image.tag_v2.get(tag, (None,)) for tag in (280, 281))  # MinSampleValue, MaxSampleValue
        return (float(low[0] or 0), float(high[0])) if high[0] and high[0] > (low[0] or 0) else None
    return None


def _raw_mode(image: Image.Image) -> str:
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    found = arguments if isinstance(arguments, str) else (arguments[0] if arguments else "")
    return found if isinstance(found, str) else ""


def _usable_range(image: Image.Image, value_range: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the range to scale an image by, or None if only its values can show it."""
    if is_truncated(image) and value_range not in (None, FULL_RANGE):
        raise DecodingError(
            "several channels of 16 bits each, of which only the upper 8 bits can be decoded",
            "Save it with 8 bits per channel, scaled to 0-255.",
        )
    return value_range or declared_range(image)


def _to_eight_bits(image: Image.Image, value_range: tuple[float, float] | None) -> Image.Image:
    """Scale values of more than 8 bits to 0-255; Pillow would clip them."""
    if not is_wide(image):
        return image
    values = np.asarray(image)
    scaled = Image.fromarray(_scale_undeclared(values) if value_range is None else scale(values, value_range))
    return ImageOps.invert(scaled) if image.info.get("inverted") else scaled


def scale(values: NDArray[Any], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Return values as uint8: the range becomes 0 to 255, and values outside it are clipped.

    >>> scale(np.array([-5, 0, 2048, 4095, 9999]), (0, 4095))
    array([  0,   0, 128, 255, 255], dtype=uint8)
    """
    low, high = value_range
    if (low, high) == FULL_RANGE and values.dtype.kind in "iu":
        return np.asarray(values.clip(0, 65_535) // 257, dtype=np.uint8)
    finite = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.asarray(np.rint(((finite - low) * (255 / (high - low))).clip(0, 255)), dtype=np.uint8)


def _scale_undeclared(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 16-bit values scaled by their full range; refuse values whose range cannot be known."""
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > FULL_RANGE[1]:
        low, high = np.nanmin(values), np.nanmax(values)
        raise DecodingError(
            f"values of unknown range, here {low:g} to {high:g}",
            "Say which values become black and white: value_range.",
        )
    return scale(values, FULL_RANGE)


def _reduced(image: Image.Image) -> Image.Image:
    """Return a very large image at a quarter of its size, to save memory in the next steps."""
    is_small = image.width * image.height <= _REDUCED or image.mode in ("P", "PA", "1")
    return image if is_small else image.reduce(4)


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image on a white background if it is transparent."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)


def _too_large() -> DecodingError:
    limit = MAX_PIXELS // 1_000_000
    return DecodingError(f"more than {limit} megapixels", f"Scale it down to at most {limit} megapixels, or remove it.")


def _unknown(file: Path | BinaryIO) -> DecodingError:
    """Return the error of a file that Pillow does not identify: TIFF files of many channels are named as such."""
    try:
        with _readable(file) as source:
            if source.read(1) == b"":
                return DecodingError("the file is empty")
            source.seek(0)
            tags = TiffImagePlugin.ImageFileDirectory_v2(source.read(8))
            source.seek(tags.next)
            tags.load(source)
            bands, bits = int(tags.get(277, 1)), tags.get(258, (1,))
    except (*_DAMAGED, Exception) as error:  # not TIFF
        if isinstance(error, FileNotFoundError):
            return DecodingError(error.strerror or "no such file")
        return DecodingError("unknown format")
    layout = f"a TIFF file with {bands} {'channel' if bands == 1 else 'channels'} of {bits[0]} bits"
    return DecodingError(f"{layout}, which cannot be read as gray or color", "Save it with 1 or 3 channels of 8 bits.")


@contextmanager
def _readable(file: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a path; rewind an open file."""
    if isinstance(file, Path):
        with file.open("rb") as source:
            yield source
        return
    file.seek(0)
    yield file


def _is_dicom(file: Path | BinaryIO) -> bool:
    if isinstance(file, Path) and file.suffix.lower() in DICOM_SUFFIXES:
        return True
    with _readable(file) as source:
        head = source.read(132)
        if not isinstance(file, Path):
            file.seek(0)
    return head[128:] == b"DICM"


def _open_dicom(file: Path | BinaryIO) -> Image.Image:
    """Return the first frame of a DICOM file as an image in its physical values (rescale slope and intercept)."""
    try:
        from pydicom import dcmread  # optional dependency
        from pydicom.pixels import pixel_array
    except ImportError as error:
        raise DecodingError("DICOM needs the library pydicom", "Install it: pip install pydicom.") from error
    with _readable(file) as source:
        try:
            data = dcmread(source)
            frames = int(data.get("NumberOfFrames") or 1)
            if int(data.Rows) * int(data.Columns) > MAX_PIXELS:
                raise _too_large()
            pixels = pixel_array(data, index=0)  # color as RGB
        except DecodingError:
            raise
        except Exception as error:  # pydicom and its plugins raise exceptions of many types
            raise DecodingError(f"damaged DICOM file: {' '.join(str(error).split())[:200]}") from error
    image = _dicom_image(data, pixels)
    image.info["frames"] = frames
    return image


def _dicom_image(data: Any, pixels: NDArray[Any]) -> Image.Image:
    kind, bits = str(data.get("PhotometricInterpretation", "")), int(data.get("BitsStored", 8))
    if pixels.ndim == 3 or not kind.startswith("MONOCHROME"):
        if pixels.ndim != 3 or pixels.shape[2] != 3 or bits != 8:
            raise DecodingError(
                f"DICOM with {kind or 'unknown'} pixels of {bits} bits", "Save it as gray or 8-bit RGB."
            )
        return Image.fromarray(pixels.astype(np.uint8))
    slope, offset = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
    is_signed = int(data.get("PixelRepresentation", 0)) == 1
    stored = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    ends = sorted(slope * value + offset for value in stored)
    if (ends[0], ends[1]) == (0, 255):
        image = Image.fromarray(pixels.astype(np.uint8))
        return ImageOps.invert(image) if kind == "MONOCHROME1" else image
    image = Image.fromarray((pixels * slope + offset).astype(np.float32))
    image.info |= {"value_range": (ends[0], ends[1]), "inverted": kind == "MONOCHROME1"}
    return image
