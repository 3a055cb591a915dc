"""Count the objects of a training set: learned, held out for the check, or left out, and why."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam_lora.text import pluralize

REASONS = {
    "leaking": "next to held-out ones in the stack",
    "too_small": "too small for the model",
    "outside_crops": "in no crop of a large plane",
    "unchecked": "neither painted nor approved",
}


@dataclass(frozen=True)
class ObjectCounts:
    """Numbers of objects; an object of a stack counts in each plane.

    Attributes
    ----------
    learned : int
        Objects that the adapter is trained on.
    held_out : int
        Objects that it is not trained on, to check it or to choose its best state.
    checked : int
        Objects that the verdict compares: of those held out and, where few are, of those learned, which are then tested
        by further adapters that have not learned them.
    leaking : int
        Left out because they lie next to held-out ones in the stack.
    too_small : int
        Left out because they are too small for the model.
    outside_crops : int
        Left out because no crop of a large plane holds them completely.
    unchecked : int
        Left out because nobody has painted or approved them, where only such objects are wanted.
    """

    learned: int = 0
    held_out: int = 0
    checked: int = 0
    leaking: int = 0
    too_small: int = 0
    outside_crops: int = 0
    unchecked: int = 0

    @property
    def left_out(self) -> int:
        """Number of objects that are neither learned nor held out."""
        return sum(getattr(self, name) for name in REASONS)

    @property
    def labelled(self) -> int:
        """Number of all objects."""
        return self.learned + self.held_out + self.left_out

    def __str__(self) -> str:
        """Return all numbers in one sentence without a full stop."""
        parts = [f"{self.learned} learned", f"{self.held_out} held out"]
        reasons = [f"{number} {why}" for name, why in REASONS.items() if (number := getattr(self, name))]
        if reasons:
            parts.append(f"{self.left_out} left out ({', '.join(reasons)})")
        return f"{pluralize(self.labelled, 'object')}: {', '.join(parts)}; {self.checked} checked"
