"""Keys for what is done most; none that napari uses, and only while a panel is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam_lora._qt.viewer.controller import Controller


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes
    ----------
    key : str
        As napari writes it.
    words : str
    action : str
        Name of a method of `Actions`.
    """

    key: str
    words: str
    action: str


# Letters alone are taken by napari's layers, nearly all of them.
KEYS = (
    Key("Shift-C", "Add the object to the labels", "commit"),
    Key("Shift-N", "Next object, keeping this one", "next_object"),
    Key("Shift-T", "Switch between inside and outside", "toggle_polarity"),
    Key("Shift-K", "Take the next of the three masks", "next_candidate"),
    Key("Shift-R", "Reset the prompts", "clear_prompts"),
    Key("Shift-M", "Switch between base model and adapter", "toggle_adapter"),
    Key("Control-Z", "Take back the last change of labels", "undo"),
    Key("Control-Shift-Z", "Do it again", "redo"),
)


def table() -> str:
    """The keys as rich text, for a label."""
    lines = [("Shift-click", "Mark a point outside of the object")] + [(one.key, one.words) for one in KEYS]
    rows = (
        f"<tr><td><b>{key.replace('Control', 'Ctrl')}</b>&nbsp;&nbsp;</td><td>{text}</td></tr>" for key, text in lines
    )
    return f"<table>{''.join(rows)}</table>"


class KeyBinder:
    """Binds the keys to a viewer while at least one panel is open.

    A key that the user or another plugin has bound already is left to them.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._actions = Actions(controller)
        self._bound: list[str] = []

    def bind(self) -> None:
        """Bind what is not bound yet."""
        if self._bound or self._controller.viewer is None:
            return
        for one in KEYS:
            try:
                self._controller.viewer.bind_key(one.key, self._handler(one.action))
            except ValueError:  # taken
                continue
            self._bound.append(one.key)

    def unbind(self) -> None:
        """Give the keys back."""
        viewer = self._controller.viewer
        while self._bound:
            key = self._bound.pop()
            if viewer is not None:
                viewer.bind_key(key, None)

    def _handler(self, action: str) -> Callable[[Any], None]:
        def handle(viewer: Any) -> None:
            if self._controller.image_layer is not None:
                getattr(self._actions, action)()

        return handle


class Actions:
    """What the keys do."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.commit = controller.commit
        self.next_object = controller.next_object
        self.toggle_polarity = controller.drawing.toggle_polarity
        self.clear_prompts = controller.clear_prompts
        self.undo = controller.undo
        self.redo = controller.redo

    def next_candidate(self) -> None:
        """Go round the candidates."""
        order = ("auto", 0, 1, 2)
        place = order.index(self._controller.options.candidate)
        self._controller.set_options(candidate=order[(place + 1) % len(order)])

    def toggle_adapter(self) -> None:
        """Switch between the base model and the adapter that was active last."""
        with self._controller.report_errors():
            active = self._controller.session.toggle()
            self._controller.message.emit(f"Segmenting with {active or 'the base model'}.")
