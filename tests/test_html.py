"""HTML pages become texts and pictures in reading order; what is around a page's text is left out."""

import time

import pytest

from dataset_builders.html import read_items
from tests.conftest import text


def image(target):
    return {"type": "image", "image": target}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<h1>One</h1><p>two <b>three</b>\nfour<p>five", [text("One"), text("two three four"), text("five")]),
        ("a <img src=b.png> c", [text("a"), image("b.png"), text("c")]),
        ("<ul><li>a<li>b<br>c &amp; d</ul>", [text("a"), text("b c & d")]),
        ("<title>T</title><script>x</script><style>y</style><p>a", [text("T"), text("a")]),
        ("<title>T</title><h1>a</h1>", [text("a")]),
        ("<title>T</title>", []),
        ("<nav>x<img src=y></nav><header>x</header><p>a</p><footer>x</footer>", [text("a")]),
        ("<article><header><h1>a</h1></header>b</article>", [text("a"), text("b")]),
        ("<p>x</p><main><p>a</p><nav>y</nav></main><p>z</p>", [text("a")]),
        ("<div>x</div><div role=main>a <i>b</i></div>", [text("a b")]),
        ("<div role=navigation>x<div>y</div></div><div id=sidebar>z</div>a", [text("a")]),
        ("<p hidden>x</p><p>a</p><p aria-hidden=true>y", [text("a")]),
        ("<h2>a<a class=headerlink href=#a>¶</a></h2>", [text("a")]),
        (
            "<table><tr><th>place<th>month<tr><td><p>marsh</p><td>May<tr><td><td>June</table>",
            [text("place | month"), text("marsh | May"), text("| June")],
        ),
        ("<table><tr><td>a<td><img src=b><td>c</table>", [text("a |"), image("b"), text("c")]),
        ("<pre>a\n  b\n</pre>c", [text("a\n  b"), text("c")]),
        ("<img src=data:, data-src=a.png><img data-src=b.png><img>", [image("a.png"), image("b.png"), image("")]),
        ("<figure><img src=a><figcaption>b</figcaption></figure>", [image("a"), text("b")]),
        ("a<!-- x --><![if y]>b<![endif]>", [text("ab")]),
        ("<svg><title>x</title><text>y</text></svg>a", [text("a")]),
        ("", []),
        (" \n", []),
        ("<!-- a", []),
        ("a", [text("a")]),
        ("<p", []),
    ],
)
def test_items(page, expected):
    assert read_items(page.encode()) == expected


def test_the_encoding_is_the_pages():
    assert read_items("<p>café".encode()) == [text("café")]
    assert read_items("\ufeff<p>café".encode()) == [text("café")]
    assert read_items('<meta charset="koi8-r"><p>чай'.encode("koi8-r")) == [text("чай")]
    assert read_items("<p>café".encode("latin-1")) == [text("café")]
    assert read_items("<p>café чай".encode("utf-16")) == [text("café чай")]
    for said in ("", '<meta charset="iso-8859-1">'):
        assert read_items(f"{said}<p>“café” – €".encode("windows-1252")) == [text("“café” – €")]


@pytest.mark.parametrize("tag", ["<div>", "<a><div>", "<table><tr><td>", "<div></x><!--</div>-->"])
def test_a_nested_bomb_is_refused_at_once(tag):
    start = time.monotonic()
    with pytest.raises(ValueError, match="nested more than 512 tags"):
        read_items((tag * 1_000_000).encode())
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("part", ["<p><b>", "<li>a", "<br>", "<p x='", "<!--", "&amp", "<" * 9, "<a " + "b=c " * 99])
def test_a_long_page_takes_time_in_proportion(part):
    def seconds(times):
        page = (part * times).encode()
        start = time.process_time()
        read_items(page)
        return time.process_time() - start

    assert seconds(80_000) < 0.5 + 12 * seconds(20_000)
