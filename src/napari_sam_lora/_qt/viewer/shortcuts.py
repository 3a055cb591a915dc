"""Keyboard shortcuts of the most frequent actions. They are no keys of napari's, and work while a panel is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam_lora._qt.viewer.controller import Controller


@dataclass(frozen=True)
class Shortcut:
    """Key and the action that it calls.

    Attributes
    ----------
    key : str
        Key combination in napari's notation.
    description : str
    action : str
        Name of a method of `Actions`.
    """

    key: str
    description: str
    action: str


# Shift or Control is needed, since napari's layers use nearly all single letters.
KEYS = (
    Shortcut("Shift-C", "Add the object to the labels", "commit"),
    Shortcut("Shift-N", "Start the next object and keep this one", "next_object"),
    Shortcut("Shift-T", "Switch between inside and outside", "toggle_polarity"),
    Shortcut("Shift-K", "Take the next of the three masks", "next_candidate"),
    Shortcut("Shift-R", "Reset the prompts", "clear_prompts"),
    Shortcut("Shift-M", "Switch between base model and adapter", "toggle_adapter"),
    Shortcut("Shift-D", "Go to the next doubtful plane of a propagation", "next_doubtful"),
    Shortcut("Control-Z", "Undo the last change of labels", "undo"),
    Shortcut("Control-Shift-Z", "Redo it", "redo"),
)


def table() -> str:
    """Return the shortcuts as rich text, for a label."""
    lines = [("Shift-click", "Mark a point outside of the object")]
    lines += [(one.key, one.description) for one in KEYS]
    rows = (
        f"<tr><td><b>{key.replace('Control', 'Ctrl')}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, text in lines
    )
    return f"<table>{''.join(rows)}</table>"


class KeyBinder:
    """Binds the shortcuts to a viewer while at least one panel is open.

    A key that the user or another plugin has already bound is left to them.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._actions = Actions(controller)
        self._bound: list[str] = []

    def bind(self) -> None:
        """Bind all shortcuts; does nothing if they are bound already."""
        if self._bound or self._controller.viewer is None:
            return
        for one in KEYS:
            try:
                self._controller.viewer.bind_key(one.key, self._handler(one.action))
            except ValueError:  # somebody else has bound it
                continue
            self._bound.append(one.key)

    def unbind(self) -> None:
        """Remove all bindings."""
        viewer = self._controller.viewer
        while self._bound:
            key = self._bound.pop()
            if viewer is not None:
                viewer.bind_key(key, None)

    def _handler(self, action: str) -> Callable[[Any], None]:
        def handle(viewer: Any) -> None:
            if self._controller.active_layers.image_layer is not None:
                getattr(self._actions, action)()

        return handle


class Actions:
    """Actions that shortcuts call."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.commit = controller.commit
        self.next_object = controller.drawing.next_object
        self.toggle_polarity = controller.drawing.toggle_polarity
        self.clear_prompts = controller.clear_prompts
        self.next_doubtful = controller.next_doubtful_wanted.emit
        self.undo = controller.undo
        self.redo = controller.redo

    def next_candidate(self) -> None:
        """Choose the next of the candidate masks; after the last one, the automatic choice."""
        order = ("auto", 0, 1, 2)
        index = order.index(self._controller.previews.options.candidate)
        self._controller.set_options(candidate=order[(index + 1) % len(order)])

    def toggle_adapter(self) -> None:
        """Switch between the base model and the adapter that was active last."""
        with self._controller.report_errors():
            active = self._controller.session.models.toggle()
            self._controller.message.emit(f"Segmenting with {active or 'the base model'}.")
