"""Warnings about files that are used all the same."""

from __future__ import annotations


class FileWarning(UserWarning):
    """Tell the user something about a file that was read or written nevertheless.

    Parameters
    ----------
    message : str
        What is unusual, and what was done about it.
    code : str
        The same in a few words with hyphens, for programs and tests; it stays when the message is reworded.
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
