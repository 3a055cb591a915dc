"""The parser: commands that fill in their options when they are asked for, errors of one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

from napari_sam_lora import __version__
from napari_sam_lora.cli.console import Console

PROGRAM = "napari-sam-lora"


class Command(Protocol):
    """A module with a command."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add options, and the default ``run``: a callable of options and console."""


Run = Callable[[argparse.Namespace, Console], None]


class CommandParser(argparse.ArgumentParser):
    """Adds its arguments when it is first used, because describing some of them means importing torch."""

    def __init__(
        self, *args: Any, fill: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any
    ) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)
        self.allow_abbrev = False
        self._fill = fill
        # They may stand before the command and after it.
        self.add_argument(
            "--quiet", action="store_true", default=argparse.SUPPRESS, help="print results and errors only"
        )
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error is from")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, after filling in the arguments."""
        if self._fill is not None:
            self._fill(self)
            self._fill = None
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End with the code 2 and one line; argparse prints the whole usage, which is a page for some commands."""
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        sys.exit(2)


def build_parser(commands: Iterable[Command]) -> argparse.ArgumentParser:
    """The parser of all commands."""
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
