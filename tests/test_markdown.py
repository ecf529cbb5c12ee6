"""Markdown, and the HTML in it, become texts and pictures in reading order; nothing readable is lost."""

import pytest

from dataset_builders.markdown import read_items
from tests.conftest import text


def image(target):
    return {"type": "image", "image": target}


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("# One\n\ntwo *three*\nfour", [text("One"), text("two three four")]),
        ("a ![x](b.png) c", [text("a"), image("b.png"), text("c")]),
        ("```\na\n  b\n```", [text("a\n  b\n")]),
        ("|a|b|\n|---|---|\n|c|![x](d.png)|", [text("a | b"), text("c |"), image("d.png")]),
        (
            "|a|b|\n|---|---|\n|*c*||\n|||\n|![x](d.png)|e|\n\nf",
            [*map(text, ("a | b", "c |")), image("d.png"), *map(text, "ef")],
        ),
        ("<p>a <i>b</i></p>\n<p>c</p>", [text("a b"), text("c")]),
        ("<ul><li>a<li>b<br>c &amp; d</ul>", [text("a"), text("b c & d")]),
        ("a<br>b <b>c</b>d <img src=e.png> f", [text("a b cd"), image("e.png"), text("f")]),
        ("<div>\n\n**a**\n\n</div>", [text("a")]),
        ("a <!-- hidden --> b\n\n<!-- hidden -->", [text("a b")]),
        ("<style>x {}</style>\n\n<script>\nlet a\n\nlet b\n</script>\n\nc", [text("c")]),
        ("a <script>let b</script> c", [text("a c")]),
        ("The <script> element is old.", [text("The element is old.")]),
        ("<div><![if x]>a<![endif]> <![odd[ b</div>", [text("a")]),
        ("a [b](javascript:c) ![d](file:///e)", [text("a b"), image("file:///e")]),
        ("---\ntitle: x\n---\na", [text("a")]),
        ("---\ntags:\n- b\n\n- c\n---  \n\na\n\n---\n\nd", [text("a"), text("d")]),
        ("---\r\ntitle: x\r\n\r\ntags: []\r\n---\r\na\r\n", [text("a")]),
        ("---\ntitle: x\n---", []),
        ("---\n---\na\n\nb\n---\n\nc", [text("a"), text("b"), text("c")]),
        ("---\n\na\n\n---\n\nb", [text("a"), text("b")]),
        ("---\r\n\r\na\r\n\r\n---\r\n\r\nb", [text("a"), text("b")]),
        ("---\na\n\nb", [text("a"), text("b")]),
    ],
)
def test_items(markdown, expected):
    assert [item for block in read_items(markdown) for item in block] == expected
