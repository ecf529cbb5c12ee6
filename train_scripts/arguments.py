"""What a script is told: a recipe in YAML, and what the command line changes in it, as dataclasses."""

import argparse
import json
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

RECIPES = Path(__file__).parent / "recipes"


def parse_arguments(argv: Sequence[str] | None, recipe: str, *kinds: type) -> tuple[Any, ...]:
    """Fill one dataclass of each kind from the recipe that `--config` names (by default the tiny one) and from `argv`.

    A recipe's values are read as if they stood on the command line before the rest, so they have the same types and
    the same errors: an unknown name or a mistyped value ends the program with a line that says which.
    """
    config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    default = RECIPES / "tiny" / f"{recipe}.yaml"
    config.add_argument("--config", type=Path, default=default, help="recipe (YAML); the tiny one unless named")
    usage = "%(prog)s [--config RECIPE] [--FIELD VALUE ...]"
    parser = HfArgumentParser(kinds, parents=[config], usage=usage, allow_abbrev=False)  # type: ignore[arg-type]
    named, given = config.parse_known_args(argv)
    try:
        given = [*_flags(named.config), *given]
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(f"the recipe {named.config} cannot be read: {error}")
    *filled, unknown = parser.parse_args_into_dataclasses(given, return_remaining_strings=True)
    if unknown:
        known = [option.removeprefix("--") for action in parser._actions for option in action.option_strings]
        name = unknown[0].removeprefix("--").split("=")[0]
        near = get_close_matches(name, known, n=1)
        parser.error(f"unknown {unknown[0]}" + (f"; did you mean {near[0]}?" if near else "; --help lists what is"))
    return tuple(filled[: len(kinds)])


def _flags(recipe: Path) -> Iterator[str]:
    """Write a recipe as command-line flags; null and an empty list leave a field at its default."""
    values = yaml.safe_load(recipe.read_text())
    if not isinstance(values, dict):
        raise ValueError(f"expected `name: value` lines, not {type(values).__name__}")
    for name, value in values.items():
        if isinstance(value, list) and value:
            yield from (f"--{name}", *map(str, value))
        elif value is not None and value != []:
            yield f"--{name}={json.dumps(value) if isinstance(value, dict) else value}"
