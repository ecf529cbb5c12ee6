"""The `nyx` command."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nyx.errors import plain_errors

# Typer brings a click of its own, or takes the installed one: what both raise is found through what it exports.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130
# In the order of the data's way; what a command says first of itself.
COMMANDS = {
    "demo": "Generate the Almanac, train both stages, index, ask, and print one table: minutes on two cores.",
    "ingest": "Cut pages into chunks, pictures in place.",
    "index": "Embed chunks, and keep them with their vectors.",
    "search": "Find the chunks that answer a question.",
    "ask": "Find documents, and let a reader answer from them.",
    "serve": "Search and ask in a browser; upload pages of your own.",
    "build-qa": "Make a NyxQA of your own pages: questions over texts and pictures, options, gold chunks, hard "
    "negatives.",
    "audit-qa": "Plant known errors into a sample of questions, and count what each filter of `nyx build-qa` catches "
    "and loses.",
    "convert": "Turn a public set's rows into a corpus and questions, or into examples.",
    "mine": "Find what a retriever confuses with the answer, as examples for stage 1.",
    "train": "Train a retriever in this process, as the tiny recipe says, or another that `--config` names.",
    "feedback": "Let readers judge what a retriever finds: from which documents they answer right.",
    "benchmark": "Draw questions of a public set, or of one's own, and lay them beside the corpus that they are asked "
    "of.",
    "evaluate": "Score retrievers on benchmarks: Recall, MRR, nDCG, and with a reader its answers, all with 95 % "
    "intervals.",
    "report": "Write report.md, report.html and results.md, the section for a model's card, from the records in a "
    "folder.",
    "publish": "Put a model, a dataset or the demo on the Hub, with a card of what really ran.",
}
MARKUP: Any = "markdown"


def load(name: str) -> Any:
    """Import a command; the others, with the seconds that some take to import, are left alone."""
    stem = name.replace("-", "_")
    module = import_module(f"nyx_cli.{stem}")
    alone = typer.Typer(add_completion=False, rich_markup_mode=MARKUP)
    alone.command(name, context_settings=getattr(module, "SETTINGS", None))(getattr(module, f"{stem}_command"))
    return typer.main.get_command(alone)


class _Group(TyperGroup):
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is named, to run it, or to complete its options."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and load(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what the user can put right is one line on stderr, with --debug a stack trace."""
        with nullcontext() if ctx.params["debug"] else plain_errors():
            return super().invoke(ctx)


app = typer.Typer(
    name="nyx",
    cls=_Group,
    help="Retrieval over pages that mix text and pictures: ingest → index → search → ask; build-qa → mine → train → "
    "feedback → train → evaluate → report → publish.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=MARKUP,
)
for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)  # for the list alone: `load` brings what runs


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the stack trace of an error")] = False,
) -> None: ...


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command, and end with 0, or with 2 and one line on stderr for what the user can put right."""
    try:
        status = app(args=argv, prog_name="nyx", standalone_mode=False)
    except UsageError as error:
        words = " ".join(error.format_message().split())  # type: ignore[attr-defined]
        context = getattr(error, "ctx", None)
        sys.stderr.write(f"Error: {words} See {context.command_path if context else 'nyx'} --help.\n")
        sys.exit(2)
    except typer.Abort:
        sys.stderr.write("Stopped.\n")
        sys.exit(INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)
