"""Leave out chunks that say nearly what one before them says, by MinHash of their word shingles."""

import re
from collections.abc import Iterable, Iterator

from dataset_builders.schema import Chunk, Dropped
from modeling_nyx.content_nyx import text_of
from modeling_nyx.images_nyx import image_key

SHINGLE_WORDS = 5
PERMUTATIONS = 128
WORD = re.compile(r"\w+")


def drop_near_duplicates(chunks: Iterable[Chunk], threshold: float, dropped: Dropped) -> Iterator[Chunk]:
    """Yield chunks whose shingles overlap less than `threshold` (Jaccard) with every one that was kept before.

    Only chunks with the same pictures are compared: what one says about two pictures is two things. The overlap is
    estimated, with a standard error of at most 0.045. The same chunks give the same result; about 3 kB a chunk are
    held. Raises `ImportError` without datasketch, `ValueError` for a threshold that isn't between 0 and 1.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError as error:
        raise ImportError("Near-duplicates need datasketch: pip install 'nyx-retriever[data]'") from error
    if not 0 < threshold <= 1:
        raise ValueError(f"The threshold is {threshold}; expected an overlap between 0 and 1, such as 0.8.")
    # Missing none matters more than comparing a few in vain, because every candidate's overlap is looked at.
    buckets = MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
    kept: dict[str, tuple[MinHash, list[str]]] = {}
    for chunk in chunks:
        shingles = _shingles(text_of(chunk.content))
        if not shingles:
            yield chunk
            continue
        pictures = [image_key(item["image"]) for item in chunk.content if item["type"] == "image"]
        sketch = MinHash(num_perm=PERMUTATIONS)
        sketch.update_batch(shingles)
        like = [key for key in buckets.query(sketch) if kept[key][1] == pictures]
        overlap, key = max(((sketch.jaccard(kept[key][0]), key) for key in like), default=(0.0, ""))
        if overlap >= threshold:
            dropped(chunk.source, f"chunk {chunk.id} resembles {key} ({overlap:.2f})")
            continue
        buckets.insert(chunk.id, sketch)
        kept[chunk.id] = sketch, pictures
        yield chunk


def _shingles(text: str) -> list[bytes]:
    """Return the runs of five words; a shorter text is one."""
    words = WORD.findall(text.lower())
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1)) if words else ()
    return sorted({" ".join(words[start : start + SHINGLE_WORDS]).encode() for start in starts})
