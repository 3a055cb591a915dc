"""Panel section that finds everything, and lets the user look through it before it is added."""

from __future__ import annotations

from typing import Any, cast

from qtpy.compat import isalive
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFormLayout, QScrollArea, QVBoxLayout, QWidget

from napari_sam_lora._qt.automatic.controller import State, everything_controller_of
from napari_sam_lora._qt.automatic.parameters import everything_form, instances_form, show_instances
from napari_sam_lora._qt.automatic.where import Place, Where, place_of
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.progress import format_duration
from napari_sam_lora._qt.widgets.controls import NO_IMAGE, Notice, TextLabel, button, combo_box
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.work_bar import WorkBar
from napari_sam_lora.errors import InputError
from napari_sam_lora.parameters.everything import EverythingConfig
from napari_sam_lora.parameters.instances import InstanceConfig
from napari_sam_lora.session import PlaneKey
from napari_sam_lora.session.everything.found_plane import ClickSearch, HeadSearch, Search
from napari_sam_lora.session.everything.run import STEPS_PER_PLANE
from napari_sam_lora.text import pluralize

NO_PLANE = "Leave the 3-D view and show a plane of the image."
NO_PLANE_LEFT = "All planes are marked as complete: there is nothing to look for."
READY = "Finds all objects that are not labelled yet. You see them before anything is added."
LOADING = "Loading the model…"
RUNNING = "Looking for objects… You can go on working."
FINISHING = "Cutting out the objects of the other planes…"
REVIEW = "Click on an object in the image to drop it, click again to take it back in; then add them."
WHERE = {"plane": "this plane", "planes": "all planes of this image", "images": "all open images"}
WHERE_TIP = (
    "Where to look for objects. All open images are searched with all their planes, and each gets its own labels. "
    "Planes that are marked as complete are left out if several planes are searched."
)
METHODS = {"head": "Object finder (fast)", "clicks": "Grid of clicks (slow)"}
METHOD_TIP = (
    "The object finder is a part of the model that was trained to find objects. Fine-tuning improves it if you mark "
    "planes as complete. The grid of clicks asks the model at many points."
)


class EverythingBox(QWidget):
    """Form that starts a search for everything; the viewer's `EverythingController` runs it.

    Parameters
    ----------
    controller : Controller
    parent : QWidget, optional
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self.everything = everything_controller_of(controller)
        self._suggested: InstanceConfig | None = None
        self._shown_state: State = "idle"
        self.where = combo_box(WHERE, WHERE_TIP)
        self.method = combo_box(METHODS, METHOD_TIP)
        self.choices = QFormLayout()
        self.instances, self.form = instances_form(), everything_form()
        self.more = button("More settings", "Show all parameters", checkable=True)
        self.more.toggled.connect(self.form.advanced.setVisible)
        self.usual = button("Usual values", "Reset all parameters to those that suit the model", self._reset)
        self.hint = Notice()
        self.look = button("Find everything", "", self.start)
        self.look.setMinimumHeight(34)
        self.bar = WorkBar()
        self.stop = button("Cancel", "Stop; what was found until then can be added", self.everything.cancel)
        self.working = row(self.bar, self.stop)
        self.go_on = button("Go on", "Search the other planes as well", self.everything.go_on)
        self.take_these = button("Only these", "Look through what was found so far", self.everything.take_these)
        self.asking = row(self.go_on, self.take_these)
        self.previous = button(
            "◀", "Show the plane before with proposed objects", lambda: self.everything.review.step(-1)
        )
        self.next = button("▶", "Show the next plane with proposed objects", lambda: self.everything.review.step(1))
        self.position = TextLabel()
        self.stepping = row(self.previous, self.position, self.next)
        self.accept = button(
            "Add",
            "Add the objects to the labels of their image; Ctrl-Z undoes it in one step",
            self.everything.accept,
        )
        self.discard = button("Discard", "Discard the objects that were found", self.everything.discard)
        self.deciding = row(self.accept, self.discard)
        self._lay_out()
        self._connect()
        self._refresh()

    def _lay_out(self) -> None:
        self.choices.setContentsMargins(0, 0, 0, 0)
        self.choices.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        self.choices.addRow("Where", self.where)
        self.choices.addRow("How", self.method)
        for step in (self.previous, self.next):
            step.setMaximumWidth(40)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.hint)
        layout.addLayout(self.choices)
        for widget in (
            self.instances,
            self.form,
            row(self.more, self.usual),
            self.form.advanced,
            self.look,
            self.working,
            self.asking,
            self.stepping,
            self.deciding,
        ):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.active_layers.image_chosen,
            controller.active_layers.plane_changed,
            controller.layers.images_changed,
            self.everything.changed,
        ):
            signal.connect(self._refresh)
        for changed in (controller.events.model_changed, controller.events.active_changed):
            changed.connect(self._on_model)
        self.where.activated.connect(self._refresh)
        self.method.activated.connect(self._refresh)
        self.instances.edited.connect(self.everything.set_values)
        self._on_model()

    def on_dock_closed(self) -> None:
        """Cancel, and discard what was found, also while the section is folded."""
        self.everything.cancel()
        self.everything.discard()

    def choose_where(self, where: Where) -> None:
        """Choose where to look for objects."""
        self.where.setCurrentIndex(self.where.findData(where))
        self._refresh()

    # Finding

    def start(self) -> None:
        """Find everything; the default model is loaded first if there is none."""
        self.everything.start(self._place().planes, self._search)

    def _place(self) -> Place:
        return place_of(self._controller, cast("Where", self.where.currentData()))

    def _search(self) -> Search | None:
        """Return how to search; None if the form has values that cannot be used, and says so."""
        try:
            if self._uses_head:
                return HeadSearch(self.instances.values())
            values = self.form.values()
            smallest = values.pop("smallest")
            return ClickSearch(EverythingConfig(**values), smallest)
        except InputError:
            return None

    @property
    def _uses_head(self) -> bool:
        """Return whether objects are found with the dense head, which this model has, or the default one will have."""
        has_head = self._suggested is not None or self._controller.session.models.model is None
        return has_head and self.method.currentData() == "head"

    def _on_model(self, *_: Any) -> None:
        """Offer the object finder where the model has one, with the parameters that suit it."""
        suggested = self._controller.session.models.head_instances
        if suggested != self._suggested:
            self._suggested = suggested
            if suggested is not None:
                show_instances(self.instances, suggested)
        self._refresh()

    def _reset(self) -> None:
        """Set the parameters to those that are usual for the model."""
        if self._uses_head:
            show_instances(self.instances, self._suggested or InstanceConfig())
            self.everything.set_values(self.instances.values())
        else:
            self.form.reset()

    # Showing

    def _refresh(self, *_: Any) -> None:
        state, uses_head = self.everything.state, self._uses_head
        has_choice = self._suggested is not None or self._controller.session.models.model is None
        place = self._place() if state == "idle" else Place()
        self.look.setVisible(state == "idle")
        self.look.setEnabled(bool(place.planes))
        self.look.setToolTip(_describe(place))
        self.working.setVisible(state in ("loading", "running", "accepting"))
        self.asking.setVisible(state == "asking")
        self.choices.setRowVisible(self.method, has_choice)
        for widget in (self.where, self.method):
            widget.setEnabled(state == "idle")
        self.instances.setVisible(uses_head)
        self.form.setVisible(not uses_head)
        self.more.setVisible(not uses_head)
        self.form.advanced.setVisible(not uses_head and self.more.isChecked())
        can_change = state == "idle" or (state == "found" and uses_head)
        for form in (self.form, self.form.advanced, self.instances, self.usual):
            form.setEnabled(can_change)
        self._show_progress()
        self._show_review()
        self.hint.say(self._hint_text(place))
        if state != self._shown_state:
            self._shown_state = state
            self.scroll_to_buttons_soon()

    def scroll_to_buttons_soon(self) -> None:
        """Let the buttons of the present state be seen, once the layout has changed."""
        QTimer.singleShot(0, self._scroll_to_buttons)

    def _scroll_to_buttons(self) -> None:
        if not isalive(self) or not self.isVisible():
            return
        buttons = {"idle": self.look, "asking": self.asking, "found": self.deciding}
        shown = buttons.get(self.everything.state, self.working)
        area = self.parentWidget()
        while area is not None and not isinstance(area, QScrollArea):
            area = area.parentWidget()
        if area is not None:
            area.ensureWidgetVisible(shown)

    def _show_progress(self) -> None:
        everything = self.everything
        if everything.state in ("loading", "accepting"):
            self.bar.setRange(0, 0)
        elif everything.state == "running":
            self.bar.setRange(0, everything.total)  # a moving bar would slow down software rendering
            self.bar.setValue(everything.done)

    def _show_review(self) -> None:
        findings, state = self.everything.review.findings, self.everything.state
        planes, shown = findings.planes, self._controller.active_layers.plane
        self.deciding.setVisible(state == "found")
        self.stepping.setVisible(state == "found" and (len(planes) > 1 or shown not in planes))
        if state == "found":
            kept = findings.count() - findings.count_dropped()
            self.accept.setText(f"Add {pluralize(kept, 'object')}")
            self.accept.setEnabled(kept > 0)
            self.position.setText(self._position_of(shown, planes))

    def _position_of(self, plane: PlaneKey | None, planes: list[PlaneKey]) -> str:
        """Return the name of an image with the position of a plane, and its number among those with proposals."""
        layer = None if plane is None else self._controller.layers.layer_of(plane.image)
        if plane not in planes or layer is None:
            return f"Objects in {pluralize(len(planes), 'plane')}"
        position = ", ".join(str(index) for index in plane.index)
        name = f"{layer.name}, plane {position}" if position else str(layer.name)
        return f"{name} ({planes.index(plane) + 1} of {len(planes)})"

    def _hint_text(self, place: Place) -> str:
        """Describe the state, or say what to do next."""
        state, everything = self.everything.state, self.everything
        if state == "running":
            return self._progress_text()
        if state == "asking":
            findings = everything.review.findings
            return (
                f"Found {pluralize(findings.count(), 'object')} in {pluralize(len(findings.searched), 'plane')}. The "
                f"other {pluralize(len(everything.planes_left), 'plane')} will take about "
                f"{format_duration(everything.estimate_left())}."
            )
        if state == "found":
            return self._review_text()
        return self._idle_text(place) if state == "idle" else {"loading": LOADING, "accepting": FINISHING}[state]

    def _idle_text(self, place: Place) -> str:
        if self._controller.active_layers.image_layer is None:
            return NO_IMAGE
        if not place.planes:
            return NO_PLANE_LEFT if place.complete else NO_PLANE
        return self.everything.message or self._ready_text(place)

    def _ready_text(self, place: Place) -> str:
        sentences = [READY]
        if len(place.planes) > 1:
            search = self._search()
            seconds = None if search is None else self.everything.pace.estimate(place.planes, search)
            text = _count(len(place.planes), len(place.images))
            text += f", about {format_duration(seconds)}" if seconds is not None else ""
            sentences.append(f"{text}.")
        if place.complete:
            sentences.append(f"{pluralize(place.complete, 'plane')} marked as complete will be left out.")
        return " ".join(sentences)

    def _progress_text(self) -> str:
        everything = self.everything
        planes = everything.total // STEPS_PER_PLANE
        if planes < 2:
            return RUNNING
        left = everything.seconds_left
        text = f"Plane {min(planes, everything.done // STEPS_PER_PLANE + 1)} of {planes}"
        text += "…" if left is None else f", about {format_duration(left)} left."
        return f"{text} You can go on working."

    def _review_text(self) -> str:
        findings = self.everything.review.findings
        text = f"Found {pluralize(findings.count(), 'object')}"
        if len(findings.planes) > 1:
            text += f" in {_count(len(findings.planes), len(findings.images))}"
        dropped = findings.count_dropped()
        sentences = [self.everything.message, f"{text}, {dropped} dropped." if dropped else f"{text}."]
        if findings.count_without_maps():
            sentences.append(
                f"Settings do not act on {pluralize(findings.count_without_maps(), 'plane')}, for lack of memory: "
                "discard them and find everything again to use other settings there."
            )
        if self.everything.review.is_cutting:
            sentences.append("Updating the other planes…" if len(findings.searched) > 1 else "")
        return " ".join(sentence for sentence in [*sentences, REVIEW] if sentence)


def _count(planes: int, images: int) -> str:
    """Return a number of planes, of images with one plane each, or of planes of several images."""
    if planes == images:
        return pluralize(images, "image")
    text = pluralize(planes, "plane")
    return text if images < 2 else f"{text} of {pluralize(images, 'image')}"


def _describe(place: Place) -> str:
    """Return a tooltip: where will be searched, with the images that are hidden."""
    sentences = ["Find all objects that are not labelled yet, and look at them before they are added."]
    if len(place.images) > 1:
        sentences.append(f"Images: {', '.join(place.images)}.")
    if place.hidden:
        verb = "is" if len(place.hidden) == 1 else "are"
        sentences.append(f"{', '.join(place.hidden)} {verb} hidden and searched as well.")
    return " ".join(sentences)
