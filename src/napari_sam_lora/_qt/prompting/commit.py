"""Panel section that writes masks into the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QSizePolicy, QSpinBox, QWidget
from superqt.utils import signals_blocked

from napari_sam_lora._qt.layers.active_layers import name_of_labels
from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import ElidedButton, LayerCombo, Notice, button
from napari_sam_lora._qt.widgets.layout import column, heading, row


class CommitBox(QWidget):
    """Choose where masks go and what they become; a button writes them.

    Parameters
    ----------
    controller : Controller
    selected : callable
        Returns the ids of the objects that are selected in the table.
    """

    def __init__(self, controller: Controller, selected: Callable[[], list[int]]) -> None:
        super().__init__()
        self._controller, self._selected = controller, selected
        self._target = LayerCombo("The Labels layer that receives the objects; only layers as large as the image fit")
        self._target.chosen.connect(controller.active_layers.choose_target)
        self._commit_as = QComboBox()
        self._commit_as.setToolTip(
            "What the mask becomes. An object that is replaced in this plane keeps its other planes, and is propagated "
            "from this one too."
        )
        self._commit_as.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._commit_as.activated.connect(self._on_commit_as)
        self._label = QSpinBox()
        self._label.setRange(1, 2**31 - 1)
        self._label.setToolTip("Id of the object that is replaced or gets the mask")
        self._label.valueChanged.connect(self._on_label)
        self._overwrite = QCheckBox("May overwrite finished objects")
        self._overwrite.setToolTip("Off: pixels of other objects stay as they are")
        self._overwrite.toggled.connect(self._on_overwrite)
        self._add = ElidedButton("Add", "Write the mask into the labels (Shift-C); Ctrl-Z undoes it", controller.commit)
        self._add.setMinimumHeight(34)
        self._message = Notice()
        self._next = button(
            "Next object",
            "Start another object and keep the prompts of this one (Shift-N)",
            controller.drawing.next_object,
        )
        self._reset = button("Reset", "Remove the prompts of this plane (Shift-R)", controller.clear_prompts)
        self._undo = button("Undo", "Undo the last change of the labels (Ctrl-Z)", controller.undo)
        self._redo = button("Redo", "Redo the last change that was undone (Ctrl-Shift-Z)", controller.redo)
        layout = column(self)
        layout.addWidget(heading("3. Add it to the labels"))
        layout.addWidget(row(QLabel("Labels"), self._target))
        layout.addWidget(row(self._commit_as, self._label))
        layout.addWidget(self._overwrite)
        layout.addWidget(self._add)
        layout.addWidget(self._message)
        layout.addWidget(row(self._next, self._reset))
        layout.addWidget(row(self._undo, self._redo))
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Update all widgets from the controller."""
        controller, policy = self._controller, self._controller.policy
        fitting = controller.active_layers.fitting_labels()
        has_image = controller.active_layers.image_layer is not None
        self._target.set_layers(fitting, controller.active_layers.target_layer, "new labels layer")
        self._target.setEnabled(has_image)
        self._fill_commit_as()
        self._label.setVisible(policy.target in ("part", "replace"))
        with signals_blocked(self._label), signals_blocked(self._overwrite):
            self._label.setValue(max(policy.label, 1))
            self._overwrite.setChecked(policy.overwrite)
        has_prompts = controller.previews.has_prompts()
        self._add.set_whole_text(self._add_text())
        for made in (self._add, self._next, self._reset):
            made.setEnabled(has_prompts)
        all_labels = controller.session.labels.values()
        self._undo.setEnabled(any(labels.last_done is not None for labels in all_labels))
        self._redo.setEnabled(any(labels.last_undone is not None for labels in all_labels))

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.policy_changed,
            controller.layers.labels_changed,
            controller.active_layers.target_chosen,
            controller.active_layers.image_chosen,
            controller.active_layers.plane_changed,
            controller.drawing.draft_changed,
            controller.previews.preview_changed,
            controller.layers.objects_changed,
        ):
            signal.connect(self._on_changed)
        controller.drawing.draft_changed.connect(self._clear_message)
        for message in (controller.message, controller.drawing.message):
            message.connect(self._message.say)

    def _clear_message(self) -> None:
        """Clear the message about the last object once there are prompts for the next one."""
        if self._controller.previews.has_prompts():
            self._message.say("")

    def _on_changed(self, *_: Any) -> None:
        self.refresh()

    def _add_text(self) -> str:
        """Return the text of the button that writes the mask: what it does, and in which layer."""
        policy, preview = self._controller.policy, self._controller.previews.preview
        image, target = self._controller.active_layers.image_layer, self._controller.active_layers.target_layer
        if image is None:
            return "Add"
        name = name_of_labels(image) if target is None else target.name
        count = 1 if preview is None else max(1, len(preview))
        if policy.target == "part":
            return f"Add to object {policy.label} in {name}"
        if policy.target == "replace":
            is_there = self._is_in_plane(policy.label)
            return f"Replace object {policy.label} in {name}" if is_there else f"Add object {policy.label} to {name}"
        if policy.target == "class":
            return f"Add to class {policy.class_id} in {name}"
        return f"Add to {name}" if count == 1 else f"Add {count} objects to {name}"

    def _fill_commit_as(self) -> None:
        """List what the mask can become with the present labels and classes."""
        policy, target = self._controller.policy, self._controller.target
        entries: list[tuple[str, dict[str, Any]]] = [("a new object", {"target": "new", "class_id": 0})]
        classes = () if target is None else target.classes
        entries += [(f"a new object: {one.name}", {"target": "new", "class_id": one.id}) for one in classes]
        if target is not None:
            entries.append(("replace object in this plane", {"target": "replace"}))
            entries.append(("more of object", {"target": "part"}))
        entries += [(f"pixels of class {one.name}", {"target": "class", "class_id": one.id}) for one in classes]
        with signals_blocked(self._commit_as):
            self._commit_as.clear()
            for number, (text, changes) in enumerate(entries):
                self._commit_as.addItem(text, changes)
                if all(getattr(policy, name) == value for name, value in changes.items()):
                    self._commit_as.setCurrentIndex(number)

    def _on_commit_as(self, number: int) -> None:
        changes = dict(self._commit_as.itemData(number))
        if changes["target"] in ("part", "replace"):
            changes["label"] = self._controller.policy.label or self._likely_object()
        self._controller.set_policy(**changes)

    def _is_in_plane(self, label: int) -> bool:
        target, plane = self._controller.target, self._controller.active_layers.plane
        return target is not None and plane is not None and label in target.ids_in(plane)

    def _likely_object(self) -> int:
        """Return the selected object, or else the one that was made last."""
        target, selected = self._controller.target, self._selected()
        ids = [record.id for record in target.records()] if target is not None else []
        return selected[0] if len(selected) == 1 else max(ids, default=1)

    def _on_label(self, label: int) -> None:
        self._controller.set_policy(label=label)

    def _on_overwrite(self, checked: bool) -> None:
        self._controller.set_policy(overwrite=checked)
