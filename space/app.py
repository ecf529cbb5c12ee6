"""A search page: ask in words, with pictures or both; see what is found, compare, let a reader answer, try own pages.

python space/app.py                                        # what `make demo` left
python space/app.py --model org/nyx --dataset org/nyxqa    # a published retriever and corpus
python space/app.py --index index/ --reader http://localhost:8000/v1
"""

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from random import Random

import gradio as gr

from dataset_builders.almanac import TINY_VLM
from dataset_builders.schema import QAPair, read_records
from desk import Desk, read_card, working_examples
from library import Retriever, is_checkpoint, open_library
from nyx.errors import plain_errors
from nyx.reader import Reader
from nyx.records import load_records
from page import SERVED, build, missing

logger = logging.getLogger(__name__)

DEMO = "runs/demo"
QUESTIONS = 500  # of which examples are chosen
SETTINGS = {
    "model": "folder or repository of the retriever; the index's own unless named",
    "index": f"folder that `nyx index` wrote; {DEMO}/index unless named",
    "dataset": "folder or repository whose corpus is embedded, instead of an index",
    "split": "which of the dataset's corpora; test unless named",
    "reader": "vision-language model that answers: a folder or name, URL#MODEL of a server, or none",
    "compare": "a second retriever, to compare with; none: no second one",
}
NONE = "none"


def open_desk(model: str, index: str, dataset: str, split: str, reader: str, compare: str) -> Desk:
    """Open what is named, and what the demo left where nothing is. Nothing is downloaded that isn't named.

    Raises `ValueError` or `OSError` for a library that isn't there.
    """
    demo = not (model or index or dataset)
    library = open_library(model, index or f"{DEMO}/index", dataset, split or "test", lambda *_: None)
    if demo:
        # What `make demo` leaves beside its index; the reader comes with the package.
        reader = reader or (str(TINY_VLM) if is_checkpoint(str(TINY_VLM)) else NONE)
        compare = compare or (f"{DEMO}/stage1" if is_checkpoint(f"{DEMO}/stage1") else NONE)
    rival = Retriever.load(compare) if compare not in ("", NONE) else None
    desk = Desk(library, rival, card=read_card(library.index.model_name))
    if reader not in ("", NONE):
        try:
            desk.reader, desk.reader_name = Reader.open(reader, timeout=60.0, retries=1), _short(reader)
        except (ValueError, OSError) as error:
            # Search works without it.
            desk.reader_error = f"The reader cannot be opened: {error}"
            logger.warning(desk.reader_error)
    return desk


def _short(reader: str) -> str:
    return reader.rpartition("#")[2] if reader.startswith(("http://", "https://")) else Path(reader).name


def questions(dataset: str, index: str, split: str) -> Iterator[QAPair]:
    """Yield questions about the library, in any order: the dataset's, or those that lie beside the demo's index."""
    beside = Path(index or f"{DEMO}/index").resolve().parent / "nyxqa" / "qa" / f"{split or 'test'}.parquet"
    if dataset:
        found = load_records(QAPair, dataset, "qa", split or "test")
    else:
        found = read_records(QAPair, beside) if beside.is_file() else iter(())
    yield from Random(0).sample(some := list(islice(found, QUESTIONS)), len(some))


def make_page(argv: Sequence[str] | None = None) -> gr.Blocks:
    """Read the settings and build the page.

    What is missing ends a command that names it; a page that is set by variables, as a Space is, says so itself.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, words in SETTINGS.items():
        variable = f"NYX_{name.upper()}"
        parser.add_argument(f"--{name}", default=os.environ.get(variable, ""), help=f"{words} (or {variable})")
    args = parser.parse_args(argv)
    try:
        desk = open_desk(**vars(args))
    except (ValueError, OSError) as error:
        if any(getattr(args, name) != os.environ.get(f"NYX_{name.upper()}", "") for name in SETTINGS):
            raise
        logger.warning(error)
        return missing(str(error))
    try:
        shown = working_examples(desk, questions(args.dataset, args.index, args.split))
    except (ValueError, OSError) as error:
        # A dataset without questions, or a server that is away: search works without examples.
        logger.warning("No examples: %s", error)
        shown = []
    logger.info("%d pages, %s; reader: %s", len(desk.library), desk.library.retriever.name, desk.reader_name or NONE)
    return build(desk, shown)


def main(argv: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("faiss", "httpx"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with plain_errors():
        make_page(argv).launch(**SERVED)


if __name__ == "__main__":
    main()
