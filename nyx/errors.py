"""How programs end when the user can put it right: one line on stderr, no traceback, exit status 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn errors about arguments, files and missing extras into that line."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        remedy = " Make room, and run it again." if getattr(error, "errno", None) == errno.ENOSPC else ""
        sys.stderr.write(f"Error: {' '.join(str(error).split())}{remedy}\n")
        sys.exit(2)


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what an extra of the package brings. Raises `ImportError` that says what to install if it isn't there."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ImportError(f"This needs {error.name}: pip install 'nyx-retriever[{name}]'") from error
