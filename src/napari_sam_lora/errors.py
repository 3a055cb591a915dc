"""Exceptions of the core; each message says what to do next."""

from __future__ import annotations

import errno

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class SamLoraError(Exception):
    """Base class of all errors that a user can cause and correct.

    Parameters
    ----------
    message : str
        What is wrong and what to do next, for a person.
    code : str
        What went wrong in a few words with hyphens, for programs and tests, such as ``"point-outside-plane"``.
        It stays the same when the message is reworded.
    """

    def __init__(self, message: str = "", *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class InputError(SamLoraError, ValueError):
    """An image, a label image, a prompt or a setting cannot be used as it is."""


class ChannelError(InputError):
    """An image has channels that are not colours, and none of them is chosen."""


class CheckpointError(SamLoraError):
    """A model checkpoint is missing, damaged or of an unknown kind."""


class AdapterError(SamLoraError):
    """An adapter file is damaged, or does not belong to the loaded base model."""


class TrainingError(SamLoraError):
    """Fine-tuning cannot start or continue."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory ran out, on a GPU or a CPU.

    NumPy raises a `MemoryError`, torch a `RuntimeError` with one of several messages, the system an `OSError`.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _OUT_OF_MEMORY)
