"""A vector is the same to the bit alone and in company, whatever way it takes; what cannot be encoded is named."""

import copy
import io
import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from modeling_nyx import BadImage, encode_nyx
from modeling_nyx.modeling_nyx import PATCHES_ON_CPU
from modeling_nyx.workers_nyx import in_processes, in_threads
from tests.conftest import colored, picture, text

WORDS = "the moth lives by salt marsh and flies in May its wings are pale with two dark bands".split()


def contents(count: int, seed: int) -> list:
    """Write random contents of 1 to 300 tokens and 0 to 3 pictures, very short ones among them."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        length = int(random.choice([1, 2, 3, 5, 8, 13, int(random.integers(14, 300))]))
        content = [text(" ".join(random.choice(WORDS, length)))]
        for number in range(int(random.integers(0, 4)) if random.random() < 0.5 else 0):
            width, height = (int(side) for side in random.integers(20, 200, 2))
            content.insert(number % 2 * len(content), picture(width, height, int(random.integers(1000))))
        made.append(content)
    return made


@pytest.fixture
def threads():
    """Restore the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_alone_equals_any_batch_to_the_bit(model, dtype, number):
    model = copy.deepcopy(model).to(dtype)
    torch.set_num_threads(number)
    made = contents(40, seed=number)
    alone = np.concatenate([model.encode_documents([content], workers=0) for content in made])
    assert alone.dtype == np.float32
    for tokens in (50, 10_000):
        assert np.array_equal(model.encode_documents(made, batch_tokens=tokens, workers=0), alone)
    order = np.random.default_rng(0).permutation(len(made))
    assert np.array_equal(model.encode_documents([made[index] for index in order], workers=2), alone[order])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_alone_is_close_to_any_batch_on_a_gpu(model, dtype):
    made = contents(40, seed=0)
    expected = model.encode_documents(made)
    model = copy.deepcopy(model).to("cuda", dtype)
    alone = np.concatenate([model.encode_documents([content], workers=0) for content in made])
    assert (alone * expected).sum(1).min() > (0.9999 if dtype == torch.float32 else 0.99)
    for tokens, workers in ((50, 0), (50, 2), (None, None)):
        together = model.encode_documents(made, batch_tokens=tokens, workers=workers)
        assert (alone * together).sum(1).min() > 0.9999


def broken(seed: int) -> list:
    """Make a content whose picture ends behind its header."""
    buffer = io.BytesIO()
    colored(80, 80, seed).save(buffer, format="PNG")
    return [{"type": "image", "image": buffer.getvalue()[: len(buffer.getvalue()) // 2]}]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_cannot_be_read_is_named_or_left_out(model, pages, workers):
    made = [pages[0], broken(1), pages[1], [text("")], pages[3], broken(1)]
    options = {"batch_tokens": 30, "workers": workers}
    with pytest.raises(BadImage, match=r"Item 1: picture of \d+ bytes cannot be decoded"):
        model.encode_documents(made[:3], **options)
    errors: dict = {}
    vectors = model.encode_documents(made, errors=errors, **options)
    assert sorted(errors) == [1, 3, 5] and isinstance(errors[1], BadImage)
    assert str(errors[3]).startswith("Empty content") and str(errors[5]).startswith("picture of")
    assert np.isnan(vectors[[1, 3, 5]]).all()
    assert np.array_equal(vectors[[0, 2, 4]], model.encode_documents([pages[0], pages[1], pages[3]]))


def test_nothing_but_what_cannot_be_read(model):
    errors: dict = {}
    assert np.isnan(model.encode_documents([broken(1), broken(2)], errors=errors)).all() and len(errors) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_picture_that_comes_back_is_encoded_once(model, monkeypatch, workers):
    made = [[text(f"number {index}"), picture(84, 56, index % 2), picture(56, 56, 7 + index)] for index in range(6)]
    alone = np.concatenate([model.encode_documents([content]) for content in made])
    seen, run = torch.zeros(1, dtype=torch.int64).share_memory_(), type(model).encode_images

    def counting(self, pixels, grids):
        seen.add_(int((grids.prod(1) == 24).sum()))
        return run(self, pixels, grids)

    monkeypatch.setattr(type(model), "encode_images", counting)
    assert np.array_equal(model.encode_documents(made, batch_tokens=30, workers=workers), alone)
    assert seen.item() == 2


def test_a_picture_worker_that_dies_is_reported():
    here = os.getpid()

    def dying(item):
        if item == 3:
            assert os.getpid() != here
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(RuntimeError, match=r"A worker process died .*workers=0"):
        list(in_processes(dying, range(8), 2))


def test_pictures_prepared_in_processes_give_the_same(model, pages, monkeypatch):
    """As for an accelerator: only the forward pass is in this process."""
    expected, here, aside = model.encode_documents(pages), os.getpid(), torch.zeros(1).share_memory_()
    pixels = type(model.processor).pixels

    def noting(self, given):
        aside.add_(os.getpid() != here)
        return pixels(self, given)

    monkeypatch.setattr(type(model.processor), "pixels", noting)
    rows = dict(enumerate(model.processor.rows(pages)))
    side_by_side = encode_nyx._side_by_side
    monkeypatch.setattr(encode_nyx, "_side_by_side", lambda on_cpu, *given: side_by_side(False, *given))
    vectors = np.empty_like(expected)
    for group, found, failed in encode_nyx.encode_rows(model, rows, 60, 2):
        vectors[group] = found
        assert not failed
    assert np.array_equal(vectors, expected) and aside.item() > 0


def test_what_a_process_hands_over_has_few_tensors_however_many_pictures(model, monkeypatch):
    """Every tensor is an open file until it is read, and a machine allows a process a thousand or so."""
    shared = [picture(28, 28, seed) for seed in range(20)]
    made = [[text(f"number {index}"), *shared] for index in range(3)]
    expected, handed = model.encode_documents(made), []

    def watching(on_cpu, workers, prepare, finish, items):
        for item in items:
            handed.append(prepare(item))
            yield finish(handed[-1])

    monkeypatch.setattr(encode_nyx, "_side_by_side", watching)
    assert np.array_equal(model.encode_documents(made, batch_tokens=40), expected)
    keys, tensors = handed[0]
    assert len(keys) == 10 and len(tensors) == 2


@pytest.mark.parametrize("many", [in_threads, in_processes])
def test_results_are_in_order_and_errors_are_passed_on(many):
    assert list(many(lambda item: item**2, range(20), 3)) == [item**2 for item in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(many(lambda item: 1 // (5 - item), range(20), 3))
    assert not multiprocessing.active_children()
    assert list(many(abs, [], 3)) == [] and list(many(abs, [-1], 3)) == [1]
    assert torch.get_num_threads() == 1


def test_threads_that_come_beside_a_pool_keep_all_of_theirs():
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(1) as server:
            working = in_threads(lambda item: torch.ones(2).sum(), range(20), 3)
            next(working)
            beside = server.submit(list, in_threads(lambda item: torch.ones(2).sum(), range(20), 3))
            beside.result()
            list(working)
            assert [server.submit(torch.get_num_threads).result(), torch.get_num_threads()] == [2, 2]
        with ThreadPoolExecutor(1) as new:
            assert new.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(1)


def test_workers_change_nothing_for_the_caller(model, pages):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    model.encode_documents(pages, batch_tokens=30, workers=2)
    assert torch.equal(torch.rand(1), expected) and torch.get_num_threads() == 1


def test_a_budget_below_one_item_is_said(model, pages, caplog):
    alone = model.encode_documents(pages)
    assert np.array_equal(model.encode_documents(pages, batch_tokens=1), alone)
    assert f"{len(pages)} contents have more than batch_tokens=1 tokens: each runs alone." in caplog.text


def test_many_pictures_pass_the_vision_tower_a_few_at_a_time(model, processor, monkeypatch):
    made = [[picture(200 + 30 * index, 300, index)] for index in range(8)]
    batch, run, sizes = processor.pack(made), model._encode_images, []
    monkeypatch.setattr(type(model), "_encode_images", lambda self, *given: sizes.append(len(given[0])) or run(*given))
    with torch.no_grad():
        features = model.encode_images(batch["pixel_values"], batch["image_grid_thw"])
    assert len(sizes) > 2 and max(sizes) < PATCHES_ON_CPU + 64
    assert [len(each) for each in features] == (batch["image_grid_thw"].prod(1) // 4).tolist()


@pytest.mark.parametrize(("native", "warned"), [(False, True), (True, False)])
def test_bfloat16_is_warned_of_where_the_cpu_emulates_it(model, monkeypatch, caplog, native, warned):
    monkeypatch.setattr(encode_nyx, "cpu_has_bfloat16", lambda: native)
    copy.deepcopy(model).to(torch.bfloat16).encode_documents([[text("a moth")]])
    assert ("dtype=torch.float32" in caplog.text) == warned
    caplog.clear()
    model.encode_documents([[text("a moth")]])
    assert not caplog.text
