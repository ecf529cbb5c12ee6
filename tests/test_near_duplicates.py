"""Near-duplicates are left out, with the id of what they resemble; other texts and other pictures stay."""

import pytest

from dataset_builders.near_duplicates import drop_near_duplicates
from dataset_builders.schema import Chunk
from tests.conftest import picture, text

WORDS = [f"moth{number}" for number in range(100)]


def chunk(name, *content):
    return Chunk(name, "d", f"{name}.md", list(content))


def words(shift):
    """A hundred words, of which as many as `shift` differ from those of `words(0)`."""
    return text(" ".join([*WORDS[shift:], *(f"new{number}" for number in range(shift))]))


def run(chunks, threshold=0.8):
    left_out = []
    kept = drop_near_duplicates(chunks, threshold, lambda source, reason: left_out.append((source, reason)))
    return [each.id for each in kept], left_out


def test_what_resembles_is_left_out_with_the_id():
    # 96 shingles each; 2 other words leave 94 in common: 94 / 98 = 0.96. 30 leave 66 / 126 = 0.52.
    chunks = [chunk("a", words(0)), chunk("b", words(2)), chunk("c", words(30)), chunk("e", text("Moths, by night!"))]
    kept, left_out = run([*chunks, chunk("f", text("moths by NIGHT"))])
    assert kept == ["a", "c", "e"]
    assert [(source, reason.split(" (")[0]) for source, reason in left_out] == [
        ("b.md", "chunk b resembles a"),
        ("f.md", "chunk f resembles e"),
    ]
    assert abs(float(left_out[0][1][-5:-1]) - 94 / 98) < 0.1
    assert run(chunks) == run(chunks)


def test_the_threshold_counts():
    chunks = [chunk("a", words(0)), chunk("b", words(30))]
    assert run(chunks, 0.9)[0] == ["a", "b"] and run(chunks, 0.3)[0] == ["a"]


def test_the_closest_is_named():
    chunks = [chunk("a", words(0)), chunk("b", words(12)), chunk("c", words(13))]
    kept, left_out = run(chunks)
    assert kept == ["a", "b"] and "chunk c resembles b" in left_out[0][1]


def test_other_pictures_make_another_chunk():
    same, other = picture(56, 56, 1), picture(56, 56, 2)
    chunks = [
        chunk("a", words(0), same),
        chunk("b", words(0), other),
        chunk("c", words(1), same),
        chunk("d", words(0)),
    ]
    assert run(chunks)[0] == ["a", "b", "d"]


def test_pictures_alone_and_no_words_stay():
    chunks = [
        chunk("a", picture(56, 56, 1)),
        chunk("b", picture(56, 56, 1)),
        chunk("c", text("?!")),
        chunk("d", text(".")),
    ]
    assert run(chunks)[0] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_odd_thresholds_are_refused(threshold):
    with pytest.raises(ValueError, match="between 0 and 1"):
        run([], threshold)
