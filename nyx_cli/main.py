"""The `nyx` command."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nyx.errors import plain_errors
from nyx_cli.ask import ask_command
from nyx_cli.audit_qa import audit_qa_command
from nyx_cli.benchmark import benchmark_command
from nyx_cli.build_qa import build_qa_command
from nyx_cli.convert import convert_command
from nyx_cli.demo import demo_command
from nyx_cli.evaluate import evaluate_command
from nyx_cli.feedback import feedback_command
from nyx_cli.index import index_command
from nyx_cli.ingest import ingest_command
from nyx_cli.mine import mine_command
from nyx_cli.publish import publish_command
from nyx_cli.report import report_command
from nyx_cli.search import search_command
from nyx_cli.serve import serve_command
from nyx_cli.train import SETTINGS, train_command

# Typer brings a click of its own, or takes the installed one: what both raise is found through what it exports.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130


class _Group(TyperGroup):
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
    rich_markup_mode="markdown",
)
# In the order of the data's way.
app.command("demo")(demo_command)
app.command("ingest")(ingest_command)
app.command("index")(index_command)
app.command("search")(search_command)
app.command("ask")(ask_command)
app.command("serve")(serve_command)
app.command("build-qa")(build_qa_command)
app.command("audit-qa")(audit_qa_command)
app.command("convert")(convert_command)
app.command("mine")(mine_command)
app.command("train", context_settings=SETTINGS)(train_command)
app.command("feedback")(feedback_command)
app.command("benchmark")(benchmark_command)
app.command("evaluate")(evaluate_command)
app.command("report")(report_command)
app.command("publish")(publish_command)


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
