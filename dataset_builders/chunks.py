"""Cut documents into chunks: at most 200 text tokens and 5 pictures, in place; tails kept or merged (paper 2.1)."""

import json
import re
from collections.abc import Callable, Iterable, Iterator

import regex
from transformers import Qwen2Tokenizer

from dataset_builders.schema import Chunk, Document, content_id
from modeling_nyx.content_nyx import Content

CountTokens = Callable[[str], int]

CHUNK_TOKENS = 200
CHUNK_IMAGES = 5
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def piece_counter() -> CountTokens:
    """Count the pieces into which Qwen's tokenizer cuts a text before it merges bytes.

    Needs no vocabulary. It never counts more than the tokenizer would make of the text, and few less in English.
    """
    settings = json.loads(Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[]).backend_tokenizer.to_str())
    # The pattern alone: the tokenizer would spell every piece as bytes too, which takes four times as long.
    pieces = regex.compile(settings["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"])
    return lambda text: len(pieces.findall(text))


def tokenizer_counter(name: str) -> CountTokens:
    """Count a model's own tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    return lambda text: len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def chunk_documents(
    documents: Iterable[Document],
    count: CountTokens,
    tokens: int = CHUNK_TOKENS,
    images: int = CHUNK_IMAGES,
    merge_tail: int = 0,
) -> Iterator[Chunk]:
    """Cut every document; a chunk's id is its content's hash, so that the same chunk has the same id in any run.

    A document's last chunk of fewer than `merge_tail` tokens joins the one before it, which then holds up to that
    many beyond `tokens`, if both have no more than `images` pictures.
    """
    if tokens < 1 or images < 1:
        raise ValueError(f"{tokens} tokens and {images} pictures a chunk; expected at least 1 of each.")
    for document in documents:
        contents = cut(document.content, count, tokens, images)
        for content in _merged(contents, count, images, merge_tail) if merge_tail else contents:
            yield Chunk(content_id(content), document.id, document.source, content)


def cut(content: Content, count: CountTokens, tokens: int, images: int) -> Iterator[Content]:
    """Cut one content list; texts are cut between sentences, and only longer sentences inside."""
    chunk: Content = []
    used = pictures = 0
    for item, size in _pieces(content, count, tokens):
        is_image = item["type"] == "image"
        if chunk and (used + size > tokens or pictures + is_image > images):
            yield chunk
            chunk, used, pictures = [], 0, 0
        _append(chunk, item)
        used += size + (not is_image)
        pictures += is_image
    if chunk:
        yield chunk


def _append(chunk: Content, item: dict) -> None:
    """Add an item to a chunk; neighbouring texts are one, with their glue between."""
    if chunk and item["type"] == "text" and chunk[-1]["type"] == "text":
        chunk[-1] = {"type": "text", "text": f"{chunk[-1]['text']}{item.get('glue', chr(10))}{item['text']}"}
    else:
        chunk.append({key: value for key, value in item.items() if key != "glue"})


def _merged(contents: Iterable[Content], count: CountTokens, images: int, fewer: int) -> Iterator[Content]:
    """Let a last chunk of fewer tokens join the one before it, if the pictures of both fit."""
    *before, last = contents
    if before:
        together = [*before[-1], *last]
        short = sum(count(item["text"]) for item in last if item["type"] == "text") < fewer
        if short and sum(item["type"] == "image" for item in together) <= images:
            last = before.pop()
            for item in together[len(last) :]:
                _append(last, item)
    yield from before
    yield last


def _pieces(content: Content, count: CountTokens, tokens: int) -> Iterator[tuple[dict, int]]:
    """Yield pictures, and texts of at most `tokens` tokens with how many they are.

    Sentences of one paragraph carry a space as their glue.
    """
    for item in content:
        size = 0 if item["type"] == "image" else count(item["text"])
        if size <= tokens:
            yield item, size
            continue
        for sentence in SENTENCE_END.split(item["text"].strip()):
            for piece, size in _halves(sentence, count, tokens):
                yield {"type": "text", "text": piece, "glue": " "}, size


def _halves(text: str, count: CountTokens, tokens: int) -> Iterator[tuple[str, int]]:
    """Halve a text, between words where it has several, until every part fits."""
    size = count(text)
    if size <= tokens or len(text) < 2:
        yield text, size
        return
    middle = len(text) // 2
    space = text.rfind(" ", 1, middle + 1)
    middle = space if space > 0 else middle
    yield from _halves(text[:middle].strip(), count, tokens)
    yield from _halves(text[middle:].strip(), count, tokens)
