"""Argument parser with one-line errors, whose commands add their options when they are first used."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

from napari_sam_lora import __version__
from napari_sam_lora.cli.console import Console

PROGRAM = "napari-sam-lora"


class Command(Protocol):
    """A module that defines a command."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add options, and the default ``run``: a callable of options and console."""


Run = Callable[[argparse.Namespace, Console], None]


class CommandParser(argparse.ArgumentParser):
    """Parser that adds its arguments when it is first used, since some of them need torch to be imported."""

    def __init__(
        self, *args: Any, fill: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any
    ) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)
        self.allow_abbrev = False
        self._fill = fill
        # On the main parser and on each command, so that they may stand before or after the command.
        self.add_argument(
            "--quiet", action="store_true", default=argparse.SUPPRESS, help="print results and errors only"
        )
        self.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, after adding the arguments."""
        if self._fill is not None:
            self._fill(self)
            self._fill = None
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with the code 2 and one line; argparse's whole usage would fill a page for some commands."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def build_parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Segment images with SAM, and adapt it to them with LoRA.",
        epilog=f"'{PROGRAM} COMMAND --help' explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(quiet=False, debug=False)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=CommandParser)
    for command in commands:
        subparsers.add_parser(command.NAME, help=command.HELP, description=command.__doc__, fill=command.add_arguments)
    return parser
