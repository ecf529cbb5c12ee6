"""The page answers over HTTP as a browser would ask: in order, in JSON, one visitor apart from another, and safely."""

import base64
import io
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from lxml import html
from PIL import Image

import cards
from desk import Desk
from nyx.reader import Prompt, Reader
from nyx.records import Chunk
from page import SERVED, build
from questions import read_question
from tabs import told_apart
from tests.conftest import colored, picture, text
from tests.space_pages import EVIL, SPACE, bomb, few_chunks, library_of, write_pages


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return few_chunks()


@pytest.fixture(scope="module")
def desk(model, model_folder, chunks) -> Desk:
    reader = Reader.from_pretrained(model_folder)
    return Desk(library_of(model, chunks), reader=reader, reader_name="tiny reader")


@pytest.fixture(scope="module")
def address(desk, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = build(desk)
        _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, **SERVED)
        yield address
        page.close()


@pytest.fixture
def client(address, tmp_path) -> Client:
    """A visitor: every client is a session of its own."""
    return Client(address, verbose=False, download_files=str(tmp_path))


def search(client: Client, words: str = "", files: list[Path] = [], k: int = 3, **more) -> list[dict]:  # noqa: B006
    pictures = [handle_file(str(path)) for path in files]
    return client.predict(text=words, pictures=pictures, k=k, api_name="/search", **more)


def shown(item: dict) -> Image.Image:
    head, _, data = item["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_results_come_with_texts_and_pictures_in_order(client, chunks, model):
    found = search(client, "First this:")
    query = model.encode_queries(["First this:"])
    scores = (query @ model.encode_documents([chunk.content for chunk in chunks]).T)[0]
    assert [hit["id"] for hit in found] == [str(place) for place in (-scores).argsort()]
    for rank, hit in enumerate(found, 1):
        place = int(hit["id"])
        assert hit["rank"] == rank and hit["source"] == f"{place}.md" and abs(hit["score"] - scores[place]) < 1e-6
        for got, item in zip(hit["content"], chunks[place].content, strict=True):
            if item["type"] == "text":
                assert got == item
            else:
                difference = np.abs(np.asarray(shown(got), int) - np.asarray(item["image"], int))
                assert difference.mean() < 8  # it was encoded anew


def test_a_smaller_dimension_searches_by_the_prefix(client, chunks, model):
    query = model.encode_queries(["First this:"])[0, :16]
    pages = model.encode_documents([chunk.content for chunk in chunks])[:, :16]
    scores = pages @ query / np.linalg.norm(pages, axis=1) / np.linalg.norm(query)
    assert np.abs([hit["score"] for hit in search(client, "First this:", dim=16)] - np.sort(scores)[::-1]).max() < 1e-5
    with pytest.raises(Exception, match="dim is 65; expected 1 to 64"):
        search(client, "x", dim=65)


def test_pictures_stand_where_marks_say(tmp_path):
    for seed in (1, 2, 3):
        colored(40, 40, seed).save(tmp_path / f"{seed}.png")
    paths = [tmp_path / f"{seed}.png" for seed in (1, 2, 3)]
    content = read_question("A wing like [3] on a body like [1], see [7].", paths)
    kinds = [item["text"] if item["type"] == "text" else item["image"].tobytes() for item in content]
    one, two, three = (colored(40, 40, seed).tobytes() for seed in (1, 2, 3))
    assert kinds == [two, "A wing like ", three, " on a body like ", one, ", see [7]."]


def test_a_picture_may_ask(client, model, chunks, tmp_path):
    colored(56, 56, 3).save(tmp_path / "moth.png")
    (hit,) = search(client, "Is [1] here?", [tmp_path / "moth.png"], k=1)
    query = model.encode_queries([[text("Is "), picture(56, 56, 3), text(" here?")]])
    scores = (query @ model.encode_documents([chunk.content for chunk in chunks]).T)[0]
    assert hit["id"] == str(scores.argmax()) and abs(hit["score"] - scores.max()) < 1e-6


def test_what_a_program_leaves_null_is_the_default(address, client, desk):
    whole = called(address, "search", ["x", [], 5, desk.library.dims[0], False])
    assert "event: complete" in whole and called(address, "search", ["x", None, None, None, None]) == whole
    three, null = (called(address, "ask", ["x", [], documents, False]) for documents in (3, None))
    assert "event: complete" in three and null == three
    with pytest.raises(Exception, match="Ask in words, with pictures, or both"):
        client.predict(text=None, pictures=[], api_name="/search")


def test_retrievers_are_told_apart():
    assert told_apart(["runs/stage2"]) == ["stage2"] and told_apart(["runs/stage2", "org/nyx"]) == ["stage2", "nyx"]
    assert told_apart(["org1/nyx", "org2/nyx"]) == ["org1/nyx", "org2/nyx"]
    assert told_apart(["org/nyx", "org/nyx"]) == ["org/nyx", "org/nyx (second)"]


def test_the_reader_answers_from_fenced_documents(client, desk, chunks):
    told = client.predict(text="Where does it live?", documents=2, api_name="/ask")
    given = [chunks[int(hit["id"])].content for hit in told["documents"]]
    prompt = Prompt(given, [text("Where does it live?")], fenced=True)
    assert len(given) == 2 and told["answer"] == desk.reader.answer([prompt])[0]


def test_bad_questions_are_refused_without_a_path(client, tmp_path):
    (tmp_path / "page.png").write_bytes(b"\x7fELF" + bytes(100))
    for files, reason in (
        ([tmp_path / "page.png"], "Picture 1 cannot be read: JPEG, PNG, WebP, GIF and BMP can"),
        ([bomb(tmp_path / "large.png", 5001)], "Picture 1 has 5001×5001 pixels; at most 25 million"),
        ([bomb(tmp_path / "bomb.png", 20000)], "Picture 1 cannot be read: .* up to 25 million"),
    ):
        with pytest.raises(Exception, match=reason) as refusal:
            search(client, "x", files)
        assert str(tmp_path) not in str(refusal.value) and "gradio" not in str(refusal.value)
    with pytest.raises(Exception, match="Ask in words, with pictures, or both"):
        search(client)
    with pytest.raises(Exception, match="At most 4 pictures and 2000 characters; 0 and 2001 came"):
        search(client, "x" * 2001)
    with pytest.raises(Exception, match="There are no pages of yours yet"):
        search(client, "x", own_pages=True)


def test_large_uploads_are_refused_before_they_are_read(address):
    data = {"files": ("moth.png", io.BytesIO(bytes(100 * 2**20)))}
    refusal = httpx.post(f"{address}gradio_api/upload", files=data)
    assert refusal.status_code == 413 and "exceeded maximum allowed" in refusal.text.lower()


def test_the_footer_of_a_phone_has_no_point_left_over(address):
    head = httpx.get(f"{address}config").json()["head"]
    assert head == "<style>@media (max-width: 640px) { footer > .divider { display: none; } }</style>"


def test_no_file_of_this_machine_is_served(address):
    for path in ("/etc/passwd", "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", str(SPACE / "app.py"), __file__):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404), path


def called(address: str, endpoint: str, inputs: list) -> str:
    """Call an endpoint without the client, which would upload a file first that it finds here; returns the events."""
    made = httpx.post(f"{address}gradio_api/call/{endpoint}", json={"data": inputs}).json()
    return httpx.get(f"{address}gradio_api/call/{endpoint}/{made['event_id']}", timeout=30).text


def called_with(address: str, path: str) -> Iterator[str]:
    file = {"path": path, "meta": {"_type": "gradio.FileData"}}
    yield called(address, "search", ["x", [file], 1, 64, False])
    yield called(address, "read_pages", [[file]])


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../../../../etc/passwd", str(SPACE / "thumbnail.jpg")])
def test_no_file_of_this_machine_is_read(address, path):
    assert "event: complete" in called(address, "search", ["x", [], 1, 64, False])
    for told in called_with(address, path):
        assert "event: error" in told and "event: complete" not in told
        assert "root:" not in told and str(SPACE.parent) not in told


def test_no_address_is_fetched(address):
    for place in ("http://attacker.invalid/moth.png", f"{address}config"):
        for told in called_with(address, place):
            assert "event: error" in told and "No address is fetched" in told


def test_what_is_found_becomes_no_markup(chunks):
    for number, source in enumerate((EVIL, "javascript:alert(1)", 'https://site.invalid/" onclick="alert(1)', None)):
        hit = cards.Hit(str(number), 0.5, chunks[2].content, source)
        page = html.fromstring(
            cards.results([hit], [hit]) + cards.answers([([1], EVIL)]) + cards.left_out([(EVIL, EVIL)])
        )
        elements = list(page.iter())
        assert {each.tag for each in elements} <= set("div article header span a img small ul li b".split())
        for each in elements:
            assert not any(name.startswith("on") for name in each.attrib)
            assert each.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
            assert each.get("href", "https://").startswith("https://")
        assert EVIL in page.xpath("string(//div[@class='nyx-flow'])")


def test_the_browser_is_told_to_load_nothing_from_elsewhere(address):
    headers = httpx.get(address).headers
    assert "img-src 'self' data: blob:;" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "googleapis" not in httpx.get(f"{address}theme.css").text


def test_visitors_search_their_own_pages_and_nobody_elses(address, client, tmp_path):
    own_pages = write_pages(tmp_path / "own")
    told = client.predict(files=[handle_file(str(path)) for path in own_pages], api_name="/read_pages")
    assert told["pages"] == 2 and not Path(str(told)).is_absolute()
    reasons = {each["source"]: each["reason"] for each in reversed(told["left_out"])}
    assert reasons["notes.md"].startswith("remote picture not fetched")
    assert "picture 'tool.png' cannot be read (of no known format)" in reasons["tool.png"]
    found = search(client, "It lives by the lagoon.", own_pages=True)
    assert sorted(hit["source"] for hit in found) == ["notes.md", "page.html"]
    (notes,) = [hit["content"] for hit in found if hit["source"] == "notes.md"]
    assert [item["type"] for item in notes] == ["text", "image"]
    assert all(hit["source"].startswith(("0", "1", "2")) for hit in search(client, "It lives by the lagoon."))
    (tool,) = (handle_file(str(path)) for path in own_pages if path.name == "tool.png")
    assert client.predict(files=[tool], api_name="/read_pages")["pages"] == 0
    assert search(client, "It lives by the lagoon.", own_pages=True) == found  # the earlier pages stay
    other = Client(address, verbose=False, download_files=str(tmp_path))
    with pytest.raises(Exception, match="There are no pages of yours yet"):
        search(other, "It lives by the lagoon.", own_pages=True)


def test_twenty_searches_at_once_all_answer_right(client, chunks, model):
    questions = [f"Question {number}" for number in range(20)]
    jobs = [client.submit(text=each, k=3, api_name="/search") for each in questions]
    pages = model.encode_documents([chunk.content for chunk in chunks])
    for each, job in zip(questions, jobs, strict=True):
        scores = {hit["id"]: hit["score"] for hit in job.result(timeout=60)}
        expected = (pages @ model.encode_queries([each])[0]).tolist()
        assert np.abs([scores[chunk.id] - expected[place] for place, chunk in enumerate(chunks)]).max() < 1e-6


def test_a_full_queue_says_so(address, desk):
    with desk.library.retriever._busy:  # so that nothing is answered meanwhile
        body = {"data": ["x", [], 1, 64, False]}
        made = [httpx.post(f"{address}gradio_api/call/search", json=body) for _ in range(40)]
    refused = [each.text for each in made if each.status_code != 200]
    assert len(refused) >= 40 - 32 - 4 and all("Queue is full" in each for each in refused)
    for each in made:
        if each.status_code == 200:
            httpx.get(f"{address}gradio_api/call/search/{each.json()['event_id']}", timeout=60)


def test_uploads_are_deleted_after_a_while(desk, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr("query.HOUR", 3)
    monkeypatch.setattr("page.HOUR", 3)
    monkeypatch.setattr("page.SWEEP", 1)
    (tmp_path / "notes.md").write_text("It flies in May.")
    page = build(desk)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, **SERVED)
    try:
        client = Client(address, verbose=False, download_files=str(tmp_path))
        client.predict(files=[handle_file(str(tmp_path / "notes.md"))], api_name="/read_pages")
        assert list((tmp_path / "gradio").rglob("notes.md")) and search(client, "May", own_pages=True)
        for _ in range(100):
            if not list((tmp_path / "gradio").rglob("notes.md")):
                break
            time.sleep(0.2)
        assert not list((tmp_path / "gradio").rglob("notes.md"))
        time.sleep(2)
        with pytest.raises(Exception, match="There are no pages of yours yet"):
            search(client, "May", own_pages=True)
    finally:
        page.close()


def test_the_readmes_example_runs(address, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    colored(56, 56, 1).save(tmp_path / "moth.jpg")
    (tmp_path / "notes.md").write_text("A moth of mine.")
    (example,) = re.findall(
        r"```python\n(from gradio_client.*?)```", (SPACE.parent / "README.md").read_text(), re.DOTALL
    )
    code = example.replace("http://127.0.0.1:7860", address)
    assert code != example
    exec(compile(code, "README.md", "exec"), {})
    assert "A moth of mine." in capsys.readouterr().out


def test_every_endpoint_says_what_it_takes(client):
    endpoints = client.view_api(return_format="dict")["named_endpoints"]
    assert set(endpoints) == {"/search", "/ask", "/read_pages"}
    for name, words in (("/search", "reading order"), ("/ask", "the reader's words"), ("/read_pages", "own_pages")):
        assert words in endpoints[name]["description"]
    names = [each["parameter_name"] for each in endpoints["/search"]["parameters"]]
    assert names == ["text", "pictures", "k", "dim", "own_pages"]
