"""The `nyx` command."""

from collections.abc import Sequence

import typer

from nyx.errors import plain_errors
from nyx_cli.audit_qa import audit_qa_command
from nyx_cli.build_qa import build_qa_command
from nyx_cli.convert import convert_command
from nyx_cli.feedback import feedback_command
from nyx_cli.index import index_command
from nyx_cli.ingest import ingest_command
from nyx_cli.mine import mine_command
from nyx_cli.publish import publish_command
from nyx_cli.search import search_command

app = typer.Typer(
    name="nyx",
    help="Retrieval over pages that mix text and pictures: ingest → index → search; build-qa → audit-qa; publish.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
# In the order of the data's way.
app.command("ingest")(ingest_command)
app.command("build-qa")(build_qa_command)
app.command("audit-qa")(audit_qa_command)
app.command("convert")(convert_command)
app.command("mine")(mine_command)
app.command("feedback")(feedback_command)
app.command("index")(index_command)
app.command("search")(search_command)
app.command("publish")(publish_command)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; what the user can put right is one line on stderr and exit status 2."""
    with plain_errors():
        app(args=argv)
