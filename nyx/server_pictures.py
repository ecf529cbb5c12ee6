"""Pictures as a server gets them: inside the request, as data URIs, so that it need not fetch anything."""

import base64
import io
import math
from typing import Any

from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from modeling_nyx.images_nyx import ORIENTATION, TURNS, BadImage, image_size, load_image
from nyx.records import image_bytes

AS_THEY_ARE = ("JPEG", "PNG", "WEBP")


def data_uri(source: Any, max_pixels: int) -> str:
    """Write a picture as a data URI of at most `max_pixels` pixels.

    A file stays as it is where every server sees in it what `load_image` does; anything else becomes a PNG of those
    pixels, resized as Qwen2.5-VL's processor would. Raises `BadImage`.
    """
    width, height = image_size(source)
    if not isinstance(source, Image.Image):
        data = image_bytes(source)
        kind = _plain(data)
        if kind and width * height <= max_pixels:
            return _uri(kind, data)
    image = load_image(source)
    if width * height > max_pixels:
        height, width = smart_resize(height, width, max_pixels=max_pixels)
        scale = math.sqrt(min(1.0, max_pixels / (width * height)))  # very long ones stay above the cap
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return _uri("PNG", buffer.getvalue())


def _plain(data: bytes) -> str | None:
    """Return the file's format if it is upright, opaque, still and of 8 bits a channel, as most are; else None."""
    try:
        with Image.open(io.BytesIO(data), formats=AS_THEY_ARE) as image:
            plain = image.mode in ("RGB", "L") and "transparency" not in image.info
            still = not getattr(image, "is_animated", False)
            if not (plain and still):
                return None
            # A PNG's EXIF data may come after its pixels, which asking for it would decode.
            turned = (image.format != "PNG" or "exif" in image.info) and image.getexif().get(ORIENTATION) in TURNS
            return None if turned else image.format
    except OSError:  # a format that not every server knows
        return None
    except Exception as error:
        raise BadImage(f"A picture of {len(data)} bytes has a broken header ({error}).") from error


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(data).decode('ascii')}"
