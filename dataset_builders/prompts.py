"""What a reader is asked while a dataset is made, and the shape its answers must have.

The fixed text comes first, so that servers keep what they made of it; the page, question and answer follow. In a page
as the reader sees it, and in the questions that it asks, `<imageN>` is the page's N-th picture.
"""

from collections.abc import Iterable
from typing import Any

from modeling_nyx.content_nyx import Content
from nyx.engines import Request

PAIRS, ANSWER_WORDS, DISTRACTORS = 5, 5, 3

# Enough for five pairs, and for one short answer or three, as JSON.
PAIRS_TOKENS, SHORT_TOKENS = 1024, 128

ASK = f"""You write questions for a search test. A page follows. Write up to {PAIRS} questions that it answers, each \
with its answer.
Somebody will be asked your question without the page at hand, and has to find the page. So every question
- makes sense on its own: it names the people, things, places and times that it is about, and never speaks of "the \
text", "the author", "this page" or "above";
- has one right answer, which the page gives and general knowledge does not;
- has a short answer: a name, a number, a thing, {ANSWER_WORDS} words at most.
If the page gives no such question, write none.
"""

ASK_TEXT = f"""{ASK}
Page: Ada Moreau opened her bakery in 1931. "I never wanted to be rich," she later told the Harbour Post.
Bad question: What did she say she never wanted? (It does not tell who.)
Good question: In which year did Ada Moreau open her bakery? Answer: 1931

Answer with JSON alone: {{"pairs": [{{"question": "...", "answer": "..."}}]}}
"""

ASK_PICTURES = f"""{ASK}
The page has pictures; <image1> stands before the first, <image2> before the second, and so on. A question may be \
about pictures. It then shows them by these marks, and by no other words: whoever is asked sees the pictures that \
are marked, and only them.

Bad question: What colour is the boat in the second photo? (There is no mark, so nobody sees the photo.)
Bad question: What is shown in <image1>? (It needs no page.)
Good question: In which harbour was the boat in <image2> built?

Answer with JSON alone: {{"pairs": [{{"question": "...", "answer": "..."}}]}}
"""

ASK_SEVERAL = f"""{ASK}
The page has several pictures; <image1> stands before the first, <image2> before the second, and so on. Each of your \
questions shows at least two of them by these marks, and can only be answered by looking at all that it shows: it \
compares, counts or connects them. Whoever is asked sees the pictures that are marked, and only them.

Bad question: Which animal is in <image1>? (It shows one picture.)
Good question: Which river flows through both the town in <image1> and the town in <image3>?

Answer with JSON alone: {{"pairs": [{{"question": "...", "answer": "..."}}]}}
"""

REFINE = f"""A page, a question about it and its answer follow. Shorten the answer to what was asked for: at most \
{ANSWER_WORDS} words, with the names and numbers that matter, spelt as they are on the page.
Leave the answer empty if it cannot be so short and stay right, if the page does not give it, or if the question \
cannot be understood without the page.

Question: When did the lighthouse of Skerry first burn gas? Answer: It first burnt gas in the spring of 1874.
Shortened: spring of 1874
Question: Why did he leave? Answer: He wanted to study.
Shortened: nothing, since nobody knows who "he" is.

Answer with JSON alone: {{"answer": "..."}}
"""

DISTRACT = f"""A page, a question about it and its right answer follow. Write {DISTRACTORS} wrong answers for a \
multiple-choice test. Each is clearly wrong by the page, differs from the others, and is of the same kind, length and \
style as the right answer, so that only somebody who knows the page can tell. None says the same as the right answer \
in other words, and none is absurd.

Answer with JSON alone: {{"options": ["...", "...", "..."]}}
"""

AGAIN = "\n\nAn earlier answer could not be used: {reason}. Answer with JSON alone, as described."


def _object(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "maxItems": most}


STRING = {"type": "string"}
PAIRS_SCHEMA = _object(pairs=_list(_object(question=STRING, answer=STRING), PAIRS))
REFINED_SCHEMA = _object(answer=STRING)
OPTIONS_SCHEMA = _object(options=_list(STRING, DISTRACTORS) | {"minItems": DISTRACTORS})


def numbered(page: Content) -> Content:
    """Put `<imageN>` before the N-th picture."""
    content: Content = []
    pictures = 0
    for item in page:
        if item["type"] == "image":
            pictures += 1
            content.append({"type": "text", "text": f"\n<image{pictures}> "})
        content.append(item)
    return content


def ask_pairs(page: Content, instruction: str) -> Request:
    """Ask for questions over a page, by `ASK_TEXT`, `ASK_PICTURES` or `ASK_SEVERAL`."""
    return Request(instruction, [_text("Page: "), *numbered(page)], PAIRS_SCHEMA, PAIRS_TOKENS)


def ask_shorter(page: Content, question: str, answer: str) -> Request:
    return Request(REFINE, _pair(page, question, answer), REFINED_SCHEMA, SHORT_TOKENS)


def ask_distractors(page: Content, question: str, answer: str) -> Request:
    return Request(DISTRACT, _pair(page, question, answer), OPTIONS_SCHEMA, SHORT_TOKENS)


def ask_again(request: Request, reason: str) -> Request:
    """Ask once more; greedily, the same request would get the same answer."""
    content = [*request.content, _text(AGAIN.format(reason=reason))]
    return Request(request.system, content, request.schema, request.max_tokens)


def _pair(page: Content, question: str, answer: str) -> Content:
    return [_text("Page: "), *numbered(page), _text(f"\n\nQuestion: {question}\nAnswer: {answer}")]


def _text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def misfit(value: Any, schema: dict[str, Any], where: str = "the answer") -> str | None:
    """Say where a value departs from one of these schemas; more items than `maxItems` are the caller's to leave."""
    if not isinstance(value, {"object": dict, "array": list, "string": str}[schema["type"]]):
        return f"{where} is no {schema['type']}"
    parts: Iterable[tuple[str, Any, dict[str, Any]]] = ()
    if schema["type"] == "object":
        if missing := [name for name in schema["required"] if name not in value]:
            return f"{where} lacks {', '.join(missing)}"
        parts = ((name, value[name], each) for name, each in schema["properties"].items())
    elif schema["type"] == "array":
        if len(value) < schema.get("minItems", 0):
            return f"{where} has {len(value)} items of {schema['minItems']}"
        parts = ((f"item {place} of {where}", item, schema["items"]) for place, item in enumerate(value, 1))
    return next((found for name, part, each in parts if (found := misfit(part, each, name))), None)
