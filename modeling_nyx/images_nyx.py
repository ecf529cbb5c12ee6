"""Pictures: read them safely, know their size without decoding them, and recognise the same one again."""

import hashlib
import io
import warnings
from os import PathLike
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 64_000_000
MAX_RATIO = 200
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
ORIENTATION = 0x0112
TURNS = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)


class BadImage(ValueError):
    """A picture that cannot be used; the message says which and why."""


def _describe(source: Any) -> str:
    if isinstance(source, bytes):
        return f"picture of {len(source)} bytes"
    if isinstance(source, Image.Image):
        return f"picture of {source.width}×{source.height} pixels"
    return f"picture {str(source)!r}"


def _read(source: Any) -> bytes:
    """Return a file's bytes, refusing what isn't a file or is too large."""
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, (str, PathLike)):
        path = Path(source)
        if not _is_file(path):
            raise BadImage(f"No such picture file: {str(source)!r}.")
        if path.stat().st_size > MAX_BYTES:
            raise BadImage(f"{_describe(source)}: {path.stat().st_size} bytes; the limit is {MAX_BYTES}.")
        data = path.read_bytes()
    else:
        raise BadImage(f"Expected a PIL image, a path or a file's bytes, not {type(source).__name__}.")
    if len(data) > MAX_BYTES:
        raise BadImage(f"{_describe(source)}: the limit is {MAX_BYTES} bytes.")
    return data


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no path at all: too long, or with a null character
        return False


def _open(source: Any) -> Image.Image:
    """Open a picture without decoding it, with its size checked."""
    if isinstance(source, Image.Image):
        image = source
    else:
        data = _read(source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Exception as error:  # Pillow raises a dozen kinds for broken headers
            why = "of no known format" if isinstance(error, UnidentifiedImageError) else error
            raise BadImage(
                f"{_describe(source)} cannot be read ({why}). Known formats: {', '.join(FORMATS)}."
            ) from error
    width, height = image.size
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise BadImage(f"{_describe(source)} is {width}×{height}; expected 1 to {MAX_PIXELS} pixels.")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadImage(f"{_describe(source)} is {width}×{height}, beyond {MAX_RATIO}:1. Crop or pad it.")
    return image


def load_image(source: Any) -> Image.Image:
    """Decode a picture (PIL image, path or file's bytes) as RGB: first frame, turned upright, flattened on white.

    Raises `BadImage` if it is missing, broken, of an unknown format, over 32 MiB or 64 megapixels, or wider (taller)
    than 200:1.
    """
    image = _open(source)
    if image.mode in ("I", "F"):
        raise BadImage(f"{_describe(source)} has mode {image.mode}, whose white is unknown. Convert it to RGB first.")
    try:
        turn = TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode.startswith("I;16"):
            upright = upright.point(lambda value: value / 257).convert("L")
        if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
            layer = upright.convert("RGBA")
            white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
            return Image.alpha_composite(white, layer).convert("RGB")
        return upright.convert("RGB")
    except Exception as error:
        raise BadImage(f"{_describe(source)} cannot be decoded ({error}).") from error


def image_size(source: Any) -> tuple[int, int]:
    """Return (width, height) in pixels after turning it upright, from the header alone."""
    image = _open(source)
    width, height = image.size
    try:
        quarter = _orientation(image) >= 5
    except Exception as error:
        raise BadImage(f"{_describe(source)} has broken EXIF data ({error}).") from error
    return (height, width) if quarter else (width, height)


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 to 8: 1 is upright, from 5 on it is turned by a quarter.

    A PNG may have EXIF data after its pixels, which asking for it would decode: there it is not looked for.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    found = image.getexif().get(ORIENTATION)
    return found if found in TURNS else 1


def image_key(source: Any) -> str:
    """Return a hash that is the same for the same file's bytes, or for the same pixels of a PIL image."""
    if isinstance(source, Image.Image):
        try:
            digest = hashlib.sha256(f"{source.mode} {source.size} {_orientation(source)} ".encode())
            digest.update(source.tobytes())
            if source.palette is not None:  # what the bytes of a picture in mode P or PA stand for
                digest.update(f"{source.palette.mode} ".encode() + source.palette.tobytes())
            if "transparency" in source.info:
                digest.update(repr(source.info["transparency"]).encode())
        except Exception as error:  # not decoded yet, and broken behind its header
            raise BadImage(f"{_describe(source)} cannot be decoded ({error}).") from error
    else:
        digest = hashlib.sha256(_read(source))
    return digest.hexdigest()
