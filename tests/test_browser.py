"""The page as people meet it: the real app on a real checkpoint, in headless Chromium (`make test-browser`)."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from dataset_builders.almanac import TINY_VLM
from dataset_builders.schema import QAPair, read_records
from nyx.index import Index
from nyx.metrics import exact_match
from nyx.models import load_encoder
from nyx.reader import Prompt, Reader
from tests.conftest import colored, free_port
from tests.demo_folder import ROOT, demo_folder

pytestmark = pytest.mark.browser
SCREENSHOTS = ROOT / "runs" / "screenshots"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
TABS = ("Results", "Compare", "Answer", "Your pages", "About")
GIVEN = 3
EVIL = """# Moth of the trap

<script>window.caught = "script"</script><img src="x" onerror="window.caught = 'onerror'">
<svg onload="window.caught = 'svg'"></svg> [a link](javascript:window.caught='link')
![beacon](http://attacker.invalid/beacon.png) ${window.caught = "template"}
{{constructor.constructor("window.caught = 1")()}} &lt;script&gt;window.caught = "escaped"&lt;/script&gt;
`<img src=http://attacker.invalid/code.png onerror=window.caught=1>`
"""
STYLE = "<style>@import 'http://attacker.invalid/a.css'</style>"


@dataclass(frozen=True)
class Site:
    """The running app, the seconds it took (by the clock, and of one core), and a question that it gets right."""

    address: str
    process: int
    clock: float
    core: float
    question: QAPair


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    return demo_folder(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def question(demo) -> QAPair:
    """A question by picture whose moth comes first, and that is answered right: there must be several such."""
    index, model, reader = Index.open(demo / "index"), load_encoder(demo / "stage2"), Reader.from_pretrained(TINY_VLM)
    pairs = [each for each in read_records(QAPair, demo / "nyxqa" / "qa" / "test.parquet") if "picture" in each.kind]
    hits = index.search(model.encode_queries([each.question for each in pairs]), GIVEN)
    found = [(pair, row) for pair, row in zip(pairs, hits, strict=True) if row[0].id in pair.gold_ids]
    assert len(found) >= len(pairs) / 2
    prompts = [Prompt([hit.content for hit in row], pair.question, fenced=True) for pair, row in found]
    answers = zip(found, reader.answer(prompts), strict=True)
    right = [pair for (pair, _), answer in answers if exact_match(answer, pair.answers)]
    assert len(right) >= 3
    return right[0]


@pytest.fixture(scope="module")
def site(demo, question) -> Iterator[Site]:
    port = free_port()
    folder, address = demo.parent.parent, f"http://127.0.0.1:{port}/"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NYX_")}
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(folder / "gradio"), "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        command = [sys.executable, str(ROOT / "space" / "app.py")]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        while not answers(address):
            assert process.poll() is None and time.monotonic() - started < 400, (folder / "log").read_text()
            time.sleep(0.1)
        clock = time.monotonic() - started
        yield Site(address, process.pid, clock, core_seconds(process.pid), question)
    finally:
        process.terminate()
        process.wait()


def core_seconds(process: int) -> float:
    """Return how long a process has kept one core busy."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}config").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        with playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as browser:
            yield browser


def open_page(browser, site: Site, **options):
    """Open the page as a new visitor; whatever it asks of other machines is kept in `page.elsewhere`."""
    page = browser.new_context(viewport=DESKTOP, **options).new_page()
    page.set_default_timeout(60_000)
    page.elsewhere = []
    page.on("request", lambda each: page.elsewhere.append(each.url) if is_elsewhere(each.url, site) else None)
    page.goto(site.address)
    page.locator("#question textarea").wait_for()
    page.wait_for_timeout(500)
    return page


def is_elsewhere(url: str, site: Site) -> bool:
    return not url.startswith((site.address, "data:", "blob:"))


def ask(page, words: str, pictures: tuple[Path, ...] = ()) -> None:
    """Type a question, add its pictures, send it, and wait for results."""
    for picture in pictures:
        page.locator("#question input[type=file]").set_input_files(str(picture))
        page.locator("#preview img").wait_for()
    page.locator("#question textarea").fill(words)
    page.locator("#question textarea").press("Enter")
    page.locator("#results article").first.wait_for()


def pictured(pair: QAPair, folder: Path) -> tuple[str, tuple[Path, ...]]:
    """Write a question as a visitor would: its words, and its picture as a file."""
    (image,) = [item["image"] for item in pair.question if item["type"] == "image"]
    (folder / "moth.jpg").write_bytes(image)
    return " ".join(item["text"] for item in pair.question if item["type"] == "text"), (folder / "moth.jpg",)


def test_a_question_with_a_picture_finds_the_moth_and_the_reader_names_it(browser, site, tmp_path):
    page = open_page(browser, site)
    ask(page, *pictured(site.question, tmp_path))
    first = page.locator("#results article").first
    assert first.get_attribute("data-id") in site.question.gold_ids
    assert first.locator("img").count() == 0 or first.locator("img").first.evaluate("each => each.naturalWidth") > 20
    assert page.locator("#timing .nyx-chosen th").inner_text() == "128"
    page.locator("#dim input[type=number]").fill("32")
    page.locator("#dim input[type=number]").press("Enter")
    page.locator("#timing .nyx-chosen th", has_text="32").wait_for()
    assert "kB" in page.locator("#timing .nyx-chosen").inner_text()
    page.locator("#dim input[type=number]").fill("128")
    page.locator("#dim input[type=number]").press("Enter")
    page.locator("#timing .nyx-chosen th", has_text="128").wait_for()

    page.get_by_role("tab", name="Answer").click()
    page.get_by_role("button", name="Ask the reader").click()
    page.locator(".nyx-answer").wait_for()
    assert exact_match(page.locator(".nyx-answer span").inner_text(), site.question.answers)
    assert page.locator("#given-documents article").count() == GIVEN
    page.locator("#given input").nth(1).uncheck()
    page.get_by_role("button", name="Ask again with these").click()
    page.locator(".nyx-before").wait_for()
    assert page.locator(".nyx-answer small").all_inner_texts() == ["from 1, 3", "from 1, 2, 3"]
    assert page.elsewhere == []


def test_an_example_runs_when_it_is_chosen(browser, site):
    page = open_page(browser, site)
    page.locator(".gallery-item").first.click()
    page.locator("#results article").first.wait_for()
    assert page.locator("#results article").count() == 5


def test_two_ways_side_by_side(browser, site, tmp_path):
    page = open_page(browser, site)
    ask(page, *pictured(site.question, tmp_path))
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Right").click()
    page.get_by_role("option", name="stage1 · 128").click()
    page.get_by_role("button", name="Compare").click()
    page.locator("#right-results article").first.wait_for()
    left, right = (
        [each.get_attribute("data-id") for each in page.locator(f"#{side}-results article").all()]
        for side in ("left", "right")
    )
    assert left[0] in site.question.gold_ids and len(left) == len(right) == 5
    notes = page.locator("#left-results .nyx-note").all_inner_texts()
    assert notes == [f"other list: {right.index(each) + 1}" if each in right else "only here" for each in left]


def test_visitors_search_their_own_pages_and_nobody_elses(browser, site, tmp_path):
    colored(84, 84, 1).save(tmp_path / "wing.png")
    (tmp_path / "notes.md").write_text("The moth Vela nova lives by the salt marsh.\n\n![](wing.png)\n")
    (tmp_path / "page.html").write_text("<p>The moth Masca nova flies in May.</p>")
    first, second = open_page(browser, site), open_page(browser, site)
    first.get_by_role("tab", name="Your pages").click()
    files = [str(tmp_path / name) for name in ("notes.md", "page.html", "wing.png")]
    first.locator("#uploads input[type=file]").set_input_files(files)
    first.locator("#uploads tr.file").nth(2).wait_for()
    first.get_by_role("button", name="Read these pages").click()
    first.locator("#report", has_text="2 pieces of 3 files are ready").wait_for()
    ask(first, "Where does the moth Vela nova live?")
    first.locator("#results article", has_text="notes.md").wait_for()
    sources = first.locator("#results .nyx-source").all_inner_texts()
    assert sorted(sources) == ["notes.md", "page.html"] and first.locator("#results img").count() == 1

    second.get_by_label("Your pages").check()
    second.locator("#question textarea").fill("Where does the moth Vela nova live?")
    second.locator("#question textarea").press("Enter")
    second.get_by_text("There are no pages of yours yet").first.wait_for()
    assert second.locator("#results article").count() == 0
    first.get_by_role("tab", name="Your pages").click()
    first.get_by_role("button", name="Forget my pages").click()
    first.locator("#report", has_text="Your pages are forgotten").wait_for()


def test_what_pages_hold_does_nothing(browser, site, tmp_path):
    (tmp_path / "trap.md").write_text(EVIL)
    (tmp_path / "trap.html").write_text(
        f"<main><p>Trap. {EVIL}</p><style>@import 'http://attacker.invalid/a.css'</style></main>"
    )
    (tmp_path / "<img src=x onerror=window.caught=1>.md").write_text("A name for a trap.")
    page = open_page(browser, site)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.get_by_role("tab", name="Your pages").click()
    page.locator("#uploads input[type=file]").set_input_files([str(path) for path in sorted(tmp_path.iterdir())])
    page.locator("#uploads tr.file").nth(2).wait_for()
    page.get_by_role("button", name="Read these pages").click()
    page.locator("#report", has_text="are ready").wait_for()
    ask(page, "Moth of the trap <img src=x onerror=window.caught=1>")
    page.locator("#results article", has_text="trap.md").wait_for()
    page.get_by_role("tab", name="Answer").click()
    page.get_by_role("button", name="Ask the reader").click()
    page.locator(".nyx-answer").wait_for()
    page.wait_for_timeout(1000)
    assert page.evaluate("window.caught") is None and page.elsewhere == []
    assert page.locator("#results script, #results svg, #results a, #results [onerror]").count() == 0


def test_the_browser_itself_refuses_pictures_from_elsewhere(browser, site):
    page = open_page(browser, site)
    failures: list[str] = []
    page.on("requestfailed", lambda each: failures.append(str(each.failure)))
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://attacker.invalid/x.png'}))")
    page.wait_for_function("document.body.lastChild.complete && document.body.lastChild.naturalWidth === 0")
    assert failures == ["csp"]


def test_what_is_too_much_is_refused_in_words(browser, site, tmp_path):
    (tmp_path / "tool.png").write_bytes(b"\x7fELF" + bytes(1000))
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(100 * 2**20)
    page = open_page(browser, site)
    page.locator("#question input[type=file]").set_input_files(str(tmp_path / "tool.png"))
    refusal = page.locator("#preview", has_text="Picture 1 cannot be read: JPEG, PNG, WebP, GIF and BMP can")
    refusal.wait_for()
    other = open_page(browser, site)
    other.locator("#question input[type=file]").set_input_files(str(tmp_path / "large.png"))
    too_large = other.get_by_text("exceed the maximum allowed size of 10.0").first
    too_large.wait_for()
    assert refusal.is_visible() and too_large.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_can_be_used_by_everybody(browser, site, tmp_path, scheme, size, request):
    """No serious finding of axe on any tab, nothing wider than the screen; and pictures of it all, to be looked at."""
    page = open_page(browser, site, color_scheme=scheme)
    page.set_viewport_size(size)
    page.reload()
    page.locator("#question textarea").wait_for()
    page.wait_for_timeout(500)
    assert faults(page, request, "start") == []
    ask(page, *pictured(site.question, tmp_path))
    for tab in TABS:
        page.get_by_role("tab", name=tab).click()
        if tab == "Compare":
            page.get_by_role("button", name="Compare").click()
            page.locator("#right-results article").first.wait_for()
        if tab == "Answer":
            page.get_by_role("button", name="Ask the reader").click()
            page.locator(".nyx-answer").wait_for()
        if tab == "Your pages":
            page.locator("#uploads input[type=file]").set_input_files(str(ROOT / "MODEL_CARD.md"))
            page.locator("#uploads tr.file").wait_for()
        assert faults(page, request, tab) == [], tab


def faults(page, request, name: str) -> list:
    """List what keeps people from using what is shown, and keep a picture of it."""
    from axe_playwright_python.sync_playwright import Axe

    page.mouse.move(0, 0)
    page.wait_for_timeout(600)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.callspec.id} {name}.png".replace(" ", "-"), full_page=True)
    found = Axe().run(page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    wide = not page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    links, points = (page.locator(f"footer > {each}:visible").count() for each in (":not(.divider)", ".divider"))
    return serious + ["wider than the screen"] * wide + ["a point in the footer stands alone"] * (points >= links)


def test_many_visitors_at_once_and_how_long_it_takes(site, tmp_path, record_property):
    def visit(number: int) -> list[dict]:
        client = Client(site.address, verbose=False, download_files=str(tmp_path))
        return client.predict(text=f"Where does moth {number} live?", k=2, api_name="/search")

    with ThreadPoolExecutor(20) as pool:
        assert [len(found) for found in pool.map(visit, range(20))] == [2] * 20
    client, seconds = Client(site.address, verbose=False, download_files=str(tmp_path)), []
    before = core_seconds(site.process)
    for number in range(15):
        started = time.monotonic()
        client.predict(text=f"What does moth {number} feed on?", api_name="/search")
        seconds.append(time.monotonic() - started)
    core, median = (core_seconds(site.process) - before) / len(seconds), sorted(seconds)[len(seconds) // 2]
    figures = (
        f"usable after {site.clock:.1f} s ({site.core:.1f} s of one core); a search takes {median * 1e3:.0f} ms from "
        f"question to answer ({core * 1e3:.0f} ms of one core)"
    )
    record_property("table", figures)
    # Of one core: another program's work on this machine must not decide.
    assert site.core <= 15 and core <= 0.3, figures
