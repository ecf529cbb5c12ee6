"""Draw the Almanac's moths: small, turned a little, noisy, and never twice the same."""

import io
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from dataset_builders.almanac_world import COUNTS, Look

RGB = {
    "red": (205, 40, 40),
    "orange": (240, 140, 30),
    "yellow": (240, 225, 60),
    "green": (50, 160, 70),
    "blue": (50, 90, 210),
    "purple": (140, 60, 170),
    "white": (245, 245, 245),
    "brown": (120, 75, 40),
}
SIZES = (56, 84, 112)
SIZE_WEIGHTS = (60, 25, 15)
VARIANTS = 6
# Heights of one, two or three marks on a wing, in a drawing 112 units high.
MARK_HEIGHTS = {"one": (57,), "two": (40, 75), "three": (29, 57, 85)}


def draw_mark(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radius: float,
    shape: str,
    colour: tuple[int, ...],
    ground: tuple[int, ...],
) -> None:
    """Draw one mark; `ground` fills the hole of a ring."""
    x, y = centre

    def box(half_width: float, half_height: float) -> list[float]:
        return [x - half_width, y - half_height, x + half_width, y + half_height]

    if shape == "bar":
        draw.rectangle(box(radius * 1.3, radius * 0.38), fill=colour)
    elif shape == "cross":
        draw.rectangle(box(radius, radius * 0.36), fill=colour)
        draw.rectangle(box(radius * 0.36, radius), fill=colour)
    else:
        draw.ellipse(box(radius, radius), fill=colour)
        if shape == "ring":
            draw.ellipse(box(radius * 0.58, radius * 0.58), fill=ground)


def draw_moth(look: Look, size: int, rng: np.random.Generator) -> Image.Image:
    """Draw a moth of `size`×`size` pixels."""
    scale = 2 * size / 112

    def jittered(name: str) -> tuple[int, ...]:
        return tuple(int(value) for value in np.clip(np.array(RGB[name]) + rng.normal(0, 8, 3), 0, 255))

    night = int(rng.integers(20, 70))
    background = (night, night, night + 15)
    image = Image.new("RGB", (2 * size, 2 * size), background)
    draw = ImageDraw.Draw(image)
    wing, mark = jittered(look.wing), jittered(look.mark)
    for left in (3, 57):
        draw.ellipse([left * scale, 10 * scale, (left + 52) * scale, 104 * scale], fill=wing)
    draw.ellipse([51 * scale, 18 * scale, 61 * scale, 98 * scale], fill=(15, 15, 15))
    for height in MARK_HEIGHTS[look.count]:
        for middle in (28, 84):
            centre = ((middle + rng.normal(0, 1)) * scale, (height + rng.normal(0, 1)) * scale)
            draw_mark(draw, centre, 13 * scale, look.shape, mark, wing)
    image = image.rotate(
        float(rng.normal(0, 5)),
        resample=Image.Resampling.BILINEAR,
        translate=(float(rng.normal(0, 2)), float(rng.normal(0, 2))),  # type: ignore[arg-type]
        fillcolor=background,
    ).resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32) + rng.normal(0, 5, (size, size, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


@cache
def _jpeg(look: Look, size: int, variant: int) -> bytes:
    features = [ord(letter) for feature in (look.wing, look.mark, look.shape) for letter in feature]
    rng = np.random.default_rng([*features, COUNTS.index(look.count), size, variant])
    buffer = io.BytesIO()
    draw_moth(look, size, rng).save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def picture(look: Look, rng: Random, side: int | None = None) -> bytes:
    """Take one of `VARIANTS` pictures (JPEG) of a moth with this look, of `side` pixels a side or of a random size."""
    return _jpeg(look, side or rng.choices(SIZES, SIZE_WEIGHTS)[0], rng.randrange(VARIANTS))
