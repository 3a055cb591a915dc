"""The command line: one module a command."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from napari_sam_lora.cli.commands import adapter, demo, evaluate, export, models, segment, train
from napari_sam_lora.cli.console import Console, one_line
from napari_sam_lora.cli.parser import build_parser
from napari_sam_lora.errors import SamLoraError

USER_ERROR = 1
INTERRUPTED = 130
COMMANDS = (demo, models, segment, train, evaluate, adapter, export)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the process by default.

    Returns
    -------
    int
        The exit code: 0, 1 after an error that the user can mend, 130 after Ctrl-C. A command that is written wrongly
        raises SystemExit with the code 2.
    """
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it logs is raised as well
    options = argparse.Namespace(debug=False)
    try:
        build_parser(COMMANDS).parse_args(arguments, options)
        options.run(options, Console(quiet=options.quiet))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nnapari-sam-lora: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USER_ERROR
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        print(f"napari-sam-lora: {_describe(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def _describe(error: Exception) -> str:
    """One line for a person."""
    if isinstance(error, SamLoraError):
        return one_line(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text or "not enough memory" in text:
        return "there is not enough memory; try a smaller --input-size, a smaller model or fewer objects at once."
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        return f"cannot read or write{place}: {error.strerror or text}"
    return f"unexpected {type(error).__name__}: {text} (--debug shows where; please report it)"
