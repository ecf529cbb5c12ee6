"""Draw the Almanac's moths and minerals: small, turned a little, noisy, and never twice the same."""

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
# Heights of one, two or three marks on a wing or crystal, in a drawing 112 units high.
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


def draw_wings(draw: ImageDraw.ImageDraw, scale: float, colour: tuple[int, ...]) -> None:
    for left in (3, 57):
        draw.ellipse([left * scale, 10 * scale, (left + 52) * scale, 104 * scale], fill=colour)
    draw.ellipse([51 * scale, 18 * scale, 61 * scale, 98 * scale], fill=(15, 15, 15))


def draw_crystals(draw: ImageDraw.ImageDraw, scale: float, colour: tuple[int, ...]) -> None:
    """Draw two pointed crystals on a rock."""
    draw.rectangle([0, 94 * scale, 112 * scale, 112 * scale], fill=(90, 90, 90))
    for left in (5, 61):
        corners = ((0, 24), (23, 6), (46, 24), (46, 104), (0, 104))
        draw.polygon([((left + x) * scale, y * scale) for x, y in corners], fill=colour)


BODIES = {"moth": draw_wings, "mineral": draw_crystals}


def draw_look(look: Look, size: int, rng: np.random.Generator, noun: str) -> Image.Image:
    """Draw a moth or a mineral of `size`×`size` pixels."""
    scale = 2 * size / 112

    def jittered(name: str) -> tuple[int, ...]:
        return tuple(int(value) for value in np.clip(np.array(RGB[name]) + rng.normal(0, 8, 3), 0, 255))

    night = int(rng.integers(20, 70))
    background = (night, night, night + 15)
    image = Image.new("RGB", (2 * size, 2 * size), background)
    draw = ImageDraw.Draw(image)
    wing, mark = jittered(look.wing), jittered(look.mark)
    BODIES[noun](draw, scale, wing)
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
def _jpeg(look: Look, size: int, variant: int, noun: str) -> bytes:
    features = [ord(letter) for feature in (look.wing, look.mark, look.shape) for letter in feature]
    rng = np.random.default_rng([*features, COUNTS.index(look.count), size, variant])
    buffer = io.BytesIO()
    draw_look(look, size, rng, noun).save(buffer, format="JPEG", quality=90, subsampling=0)
    return buffer.getvalue()


def picture(look: Look, rng: Random, noun: str = "moth", side: int | None = None) -> bytes:
    """Take one of `VARIANTS` pictures (JPEG) of a moth or a mineral with this look, of `side` or a random size."""
    return _jpeg(look, side or rng.choices(SIZES, SIZE_WEIGHTS)[0], rng.randrange(VARIANTS), noun)
