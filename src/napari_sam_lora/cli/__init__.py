"""The command line."""

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
from napari_sam_lora.errors import SamLoraError, is_out_of_memory

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
        The exit code: 0, 1 after an error, 130 after Ctrl-C. Wrong options raise SystemExit with the code 2.
    """
    logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it also raises what it logs
    options = argparse.Namespace(debug=False)
    try:
        build_parser(COMMANDS).parse_args(arguments, options)
        options.run(options, Console(quiet=options.quiet))
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\nnapari-sam-lora: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return USER_ERROR
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        print(f"napari-sam-lora: {describe_error(error)}", file=sys.stderr)
        return USER_ERROR
    return 0


def describe_error(error: Exception) -> str:
    """Describe an error in one line for the user."""
    if isinstance(error, SamLoraError):
        return one_line(error)
    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return "not enough memory; try a smaller --input-size, a smaller model or fewer objects at once."
    if isinstance(error, OSError):
        place = f" {error.filename}" if error.filename else ""
        return f"cannot read or write{place}: {error.strerror or text}"
    return f"unexpected {type(error).__name__}: {text} (--debug shows the traceback; please report it)"
