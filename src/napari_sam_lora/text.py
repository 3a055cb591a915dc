"""Text for people: numbers of things, and cautions."""

from __future__ import annotations


class Caution(str):
    """Something a user should know that is no error.

    Parameters
    ----------
    message : str
        For a person.
    code : str
        What it is in a few words with hyphens, for programs and tests. It stays the same when the message is reworded.
    """

    code: str

    def __new__(cls, message: str, code: str = "") -> Caution:
        """Make the string, and keep its code."""
        self = super().__new__(cls, message)
        self.code = code
        return self


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun: "1 object", "2 objects"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
