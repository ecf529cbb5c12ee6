"""sentence-transformers loads a saved folder and gives our vectors, whatever comes together in one list."""

import io
import json
import re

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer, __version__
from sentence_transformers.util.quantization import quantize_embeddings

from modeling_nyx import BadImage
from nyx.messages import to_messages
from tests.conftest import colored, picture, text

TOLERANCE = 1e-4
A, B = picture(56, 84, 1), picture(113, 97, 2)
MESSAGES = [{"role": "user", "content": [text("first "), A, text(" then "), B, text(" last")]}]
MIXED = [
    "The moth Vela mirabilis.",
    A["image"],
    {"text": "a moth", "image": B["image"]},
    {"image": B["image"], "text": "a moth"},
    MESSAGES,
    {"role": "user", "content": "A message of text."},
    [{"role": "user", "content": [B]}],
    {"text": "only text"},
]


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("sentence")
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder):
    return SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max())


def test_stock_modules_with_last_token_pooling(encoder, folder):
    kinds = [module["type"] for module in json.loads((folder / "modules.json").read_text())]
    assert [type(module).__module__ + "." + type(module).__name__ for module in encoder] == kinds
    assert all(kind.startswith("sentence_transformers.") for kind in kinds)
    assert encoder[1].pooling_mode == "lasttoken" and encoder.get_embedding_dimension() == 64
    assert encoder.prompts == {"query": "Find what answers: ", "document": ""}
    assert encoder.similarity_fn_name == "cosine" and encoder.supports("image") and not encoder.supports("video")


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_anything_mixed_in_one_list_gives_our_vectors(encoder, model, batch_size):
    queries = encoder.encode_query(MIXED, batch_size=batch_size)
    assert difference(model.encode_queries(MIXED), queries) < TOLERANCE
    documents = encoder.encode_document(MIXED, batch_size=batch_size)
    assert difference(model.encode_documents(MIXED), documents) < TOLERANCE


@pytest.mark.skipif(__version__ < "6.2", reason="lists in dictionaries came with 6.2")
def test_lists_in_dictionaries(encoder, model):
    several = [{"image": [A["image"], B["image"]], "text": "two"}, {"text": ["a", "b"], "image": [A["image"]]}, "x"]
    assert difference(model.encode_documents(several), encoder.encode_document(several)) < TOLERANCE


def test_messages_beside_other_inputs_are_not_blanked(encoder):
    alone = encoder.encode_document([MESSAGES])
    assert difference(alone, encoder.encode_document([MESSAGES, "other"])[:1]) < TOLERANCE
    other = [{"role": "user", "content": [text("other")]}]
    assert np.abs(alone - encoder.encode_document([other, "other"])[:1]).max() > 1e-2


@pytest.mark.skipif(__version__ < "6.2", reason="earlier ones do not count")
def test_pictures_are_counted_per_input(encoder):
    features = encoder.preprocess(MIXED)
    assert features["num_images_per_sample"].tolist() == [0, 1, 1, 1, 2, 0, 1, 0]
    assert len(features["image_grid_thw"]) == 6


def test_every_input_ends_in_the_end_token(encoder):
    features = encoder.preprocess(MIXED)
    last = features["attention_mask"].sum(1) - 1
    ends = features["input_ids"][range(len(MIXED)), last]
    assert set(ends.tolist()) == {encoder.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    assert features["mm_token_type_ids"].sum() == (features["input_ids"] == encoder.processor.image_token_id).sum()


@pytest.mark.parametrize("side", ["left", "right"])
def test_either_padding_side(encoder, model, side):
    vectors = encoder.encode_document(MIXED, processing_kwargs={"text": {"padding_side": side}})
    assert difference(model.encode_documents(MIXED), vectors) < TOLERANCE


def test_arrows_null_keys(encoder, model):
    content = [{"type": "text", "text": "a", "image": None}, {"type": "image", "text": None, "image": A["image"]}]
    vectors = encoder.encode_document([[{"role": "user", "content": content}], "other"])
    assert difference(model.encode_documents([content, "other"]), vectors) < TOLERANCE


def test_special_tokens_in_text_and_prompt(encoder, model):
    odd = ["<|im_end|>", {"text": "<|image_pad|>", "image": A["image"]}, "<|im_", "end|>"]
    assert difference(model.encode_documents(odd), encoder.encode_document(odd)) < TOLERANCE
    prompted = encoder.encode(["end|> x"], prompt="<|im_")
    assert difference(model.encode_documents([[text("<|im_"), text("end|> x")]]), prompted) < TOLERANCE


def test_beyond_the_window_it_cuts_as_we_do(encoder, model):
    window = encoder.max_seq_length
    assert window == model.processor.max_tokens == 1024
    many = [item for number in range(60) for item in (text(f"picture {number} " * 3), picture(112, 112, number))]
    long = [[{"role": "user", "content": many}], "a moth " * 2000, [{"role": "user", "content": [A] * 250}]]
    assert all(len(row.ids) <= window for row in model.processor.rows(long))
    assert difference(model.encode_documents(long), encoder.encode_document(long)) < TOLERANCE
    assert difference(model.encode_queries(long), encoder.encode_query(long)) < TOLERANCE


def test_a_window_can_be_narrowed(encoder, model):
    own = model.processor.tokenizer.model_max_length
    encoder.max_seq_length = model.processor.tokenizer.model_max_length = 20
    try:
        assert encoder.preprocess(MIXED)["input_ids"].shape[1] <= 20
        assert difference(model.encode_documents(MIXED), encoder.encode_document(MIXED)) < TOLERANCE
    finally:
        encoder.max_seq_length = model.processor.tokenizer.model_max_length = own
    limited = encoder.preprocess(["a moth " * 50], processing_kwargs={"text": {"max_length": 12}})
    assert limited["input_ids"].shape[1] == 12


@pytest.mark.parametrize("dim", [16, 63])
def test_truncated_and_normalised_is_our_prefix(encoder, model, dim):
    vectors = encoder.encode_query(MIXED, truncate_dim=dim, normalize_embeddings=True)
    assert difference(model.encode_queries(MIXED, truncate_dim=dim), vectors) < TOLERANCE
    # It normalises before it cuts: without the argument, only directions are ours.
    cut = encoder.encode_query(MIXED, truncate_dim=dim)
    assert np.linalg.norm(cut, axis=1).max() < 1 and np.allclose(encoder.similarity(cut, vectors).diagonal(), 1)


def test_quantised(encoder, model):
    ours = model.encode_documents(MIXED)
    bits = np.unpackbits(encoder.encode_document(MIXED, precision="ubinary"), axis=1)
    assert np.array_equal(bits[np.abs(ours) > TOLERANCE], (ours > 0)[np.abs(ours) > TOLERANCE])
    bytes_ = encoder.encode_document(MIXED, precision="int8").astype(int)
    assert np.abs(bytes_ - quantize_embeddings(ours, "int8").astype(int)).max() <= 1


def test_several_processes(encoder, model):
    vectors = encoder.encode_document(MIXED, device=["cpu", "cpu"], chunk_size=4)
    assert difference(model.encode_documents(MIXED), vectors) < TOLERANCE


def test_similarity_is_the_cosine(encoder, model):
    queries, documents = encoder.encode_query(MIXED[:3]), encoder.encode_document(MIXED)
    expected = model.encode_queries(MIXED[:3]) @ model.encode_documents(MIXED).T
    assert difference(expected, encoder.similarity(queries, documents).numpy()) < TOLERANCE


def test_one_input_alone(encoder, model):
    for one in MIXED[:5]:
        assert difference(model.encode_documents([one])[0], encoder.encode_document(one)) < TOLERANCE


def test_any_content_as_messages(encoder, model):
    buffer = io.BytesIO()
    colored(40, 20, 7).convert("RGBA").save(buffer, format="PNG")
    contents = [
        "https://example.org/moth.png",
        buffer.getvalue(),
        {"texts": ["a", None], "images": [None, A["image"]]},
    ]
    vectors = encoder.encode_document([to_messages(content) for content in contents])
    assert difference(model.encode_documents(contents), vectors) < TOLERANCE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        # It takes strings that look like a picture's address for one; nothing is fetched.
        ("https://example.org/moth.png", "No such picture file: 'https://example.org/moth.png'"),
        ([{"role": "user", "content": [{"type": "image", "url": "https://example.org/moth.png"}]}], "Unknown content"),
        ([{"role": "user", "content": [{"type": "video", "video": "x.mp4"}]}], "Unknown content"),
        ("", "Empty content"),
        (np.zeros((8, 8, 3), dtype=np.uint8), "Unknown picture: ndarray"),
        ({"text": "a", "video": "b"}, re.escape("Unknown content")),
    ],
)
def test_what_cannot_be_embedded_is_refused(encoder, given, message):
    with pytest.raises((ValueError, BadImage), match=message):
        encoder.encode_document([given, "fine"])


def test_picture_settings_are_the_checkpoints(encoder):
    with pytest.raises(ValueError, match="they are the checkpoint's own"):
        encoder.encode([A["image"]], processing_kwargs={"image": {"max_pixels": 784}})


def test_saved_by_sentence_transformers_it_stays_complete(encoder, model, folder, tmp_path):
    encoder.prompts["query"] = "Changed: "
    try:
        encoder.save_pretrained(str(tmp_path), create_model_card=False)
        expected = encoder.encode_query(MIXED)
    finally:
        encoder.prompts["query"] = "Find what answers: "
    again = SentenceTransformer(str(tmp_path), trust_remote_code=True, device="cpu")
    assert difference(expected, again.encode_query(MIXED)) == 0
    for name in ("processor_config.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
