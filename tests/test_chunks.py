"""Chunks keep everything in order, within their limits."""

import pytest
from transformers import Qwen2Tokenizer

from dataset_builders.chunks import chunk_documents, cut, piece_counter, tokenizer_counter
from dataset_builders.schema import Document
from modeling_nyx.content_nyx import text_of
from tests.conftest import picture, text

COUNT = piece_counter()
LONG = " ".join(f"Moth {index} flies by the lagoon in May." for index in range(100))
PAGE = [text("Moths"), picture(56, 56, 1), text(LONG), picture(56, 56, 2), text("The end.")]


def flat(contents):
    return [item for content in contents for item in content]


def squeezed(content):
    return "".join(text_of(content).split())


def test_nothing_is_lost_and_limits_hold():
    chunks = list(cut(PAGE, COUNT, 200, 5))
    assert len(chunks) > 4
    assert "".join(squeezed(chunk) for chunk in chunks) == squeezed(PAGE)
    assert [item["image"] for item in flat(chunks) if item["type"] == "image"] == [PAGE[1]["image"], PAGE[3]["image"]]
    assert all(sum(COUNT(item["text"]) for item in chunk if item["type"] == "text") <= 200 for chunk in chunks)
    assert all(chunk[0]["text"].startswith(("Moth", "The end")) for chunk in chunks)


def test_pictures_stay_between_their_texts():
    content = [text("before"), picture(56, 56, 1), text("after")]
    assert list(cut(content, COUNT, 200, 5)) == [content]


def test_at_most_five_pictures():
    chunks = list(cut([picture(56, 56, index) for index in range(12)], COUNT, 200, 5))
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]


def test_text_without_spaces_is_cut_too():
    chunks = list(cut([text("é!" * 900)], COUNT, 200, 5))
    assert "".join(text_of(chunk).replace("\n", "").replace(" ", "") for chunk in chunks) == "é!" * 900
    assert all(COUNT(text_of(chunk)) <= 200 for chunk in chunks)


def test_ids_are_of_content_and_documents_are_kept():
    document = Document("page", PAGE, "a.md")
    first, second = (list(chunk_documents([document], COUNT)) for _ in range(2))
    assert [chunk.id for chunk in first] == [chunk.id for chunk in second]
    assert {(chunk.document_id, chunk.source) for chunk in first} == {("page", "a.md")}


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="0 tokens"):
        next(chunk_documents([], COUNT, tokens=0))


def test_a_models_tokenizer_can_count(model_folder, tokenizer):
    count = tokenizer_counter(str(model_folder))
    assert count(LONG) == len(tokenizer(LONG)["input_ids"]) >= COUNT(LONG)


def merged(page, fewer, tokens=20, images=2):
    chunks = chunk_documents([Document("d", page, "s")], COUNT, tokens, images, merge_tail=fewer)
    return [chunk.content for chunk in chunks]


def test_a_short_tail_is_merged_if_asked():
    page = [text("Nine moths fly by the lagoon in May. " * 4), picture(56, 56, 1), text("The end.")]
    kept = merged(page, 0)
    assert kept[-1][-1] == text("The end.") and len(kept) == 3
    tail = sum(COUNT(item["text"]) for item in kept[-1] if item["type"] == "text")
    assert merged(page, tail) == kept
    joined = merged(page, tail + 1)
    assert len(joined) == 2 and joined[0] == kept[0] and squeezed(flat(joined)) == squeezed(page)
    assert [item["type"] for item in flat(joined)] == [item["type"] for item in [*kept[0], *kept[1], *kept[2]]]


def test_a_tail_stays_where_pictures_would_be_too_many():
    page = [picture(56, 56, index) for index in range(3)]
    assert merged(page, 9) == [page[:2], page[2:]] and merged(page[:1], 9) == [page[:1]]


def test_a_merged_tail_is_one_text():
    page = [text("One moth flies."), text("Two moths fly."), text("The end.")]
    assert merged(page, 9, tokens=6) == [[text("One moth flies.")], [text("Two moths fly.\nThe end.")]]


@pytest.mark.parametrize(
    "words", ["I'm here: 12 moths' wings!", "a\r\n\n  b \t ", "Ünïcödé — 日本語テキスト 😀", "", LONG]
)
def test_pieces_are_the_tokenizers_own(words):
    split = Qwen2Tokenizer(vocab={"<|endoftext|>": 0}, merges=[]).backend_tokenizer.pre_tokenizer
    assert COUNT(words) == len(split.pre_tokenize_str(words))
