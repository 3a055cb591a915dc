"""Writing masks into labels."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QSizePolicy, QSpinBox, QWidget

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.widgets.controls import LayerCombo, Notice, button, column, heading, row


class CommitBox(QWidget):
    """Where masks go, as what, and the button that writes them."""

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._target = LayerCombo("The Labels layer that receives the objects; only layers as large as the image fit")
        self._target.chosen.connect(controller.choose_target)
        self._what = QComboBox()
        self._what.setToolTip("What the mask becomes")
        self._what.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._what.activated.connect(self._on_what)
        self._label = QSpinBox()
        self._label.setRange(1, 2**31 - 1)
        self._label.setToolTip("Id of the object that the mask is added to")
        self._label.valueChanged.connect(self._on_label)
        self._overwrite = QCheckBox("May overwrite finished objects")
        self._overwrite.setToolTip("Off: pixels of other objects are never taken")
        self._overwrite.toggled.connect(self._on_overwrite)
        self._add = button(
            "Add object", "Write the mask into the labels (Shift-C); Ctrl-Z takes it back", controller.commit
        )
        self._add.setMinimumHeight(34)
        self._message = Notice()
        self._next = button("Next object", "Begin another object and keep this one (Shift-N)", controller.next_object)
        self._reset = button("Reset", "Remove the prompts of this plane (Shift-R)", controller.clear_prompts)
        self._undo = button("Undo", "Take back the last change of the labels (Ctrl-Z)", controller.undo)
        self._redo = button("Redo", "Do again what was taken back (Ctrl-Shift-Z)", controller.redo)
        whole = column(self)
        whole.addWidget(heading("3. Add it to the labels"))
        whole.addWidget(row(QLabel("Labels"), self._target))
        whole.addWidget(row(self._what, self._label))
        whole.addWidget(self._overwrite)
        whole.addWidget(self._add)
        whole.addWidget(self._message)
        whole.addWidget(row(self._next, self._reset))
        whole.addWidget(row(self._undo, self._redo))
        self._connect()
        self.refresh()

    def refresh(self) -> None:
        """Show how things are."""
        controller, policy = self._controller, self._controller.policy
        fitting = controller.label_layers()
        has_image = controller.image_layer is not None
        self._target.set_layers(fitting, controller.target_layer, "new labels layer")
        self._target.setEnabled(has_image)
        self._list_kinds()
        self._label.setVisible(policy.target == "part")
        for widget, value in ((self._label, max(policy.label, 1)), (self._overwrite, policy.overwrite)):
            blocker = QSignalBlocker(widget)
            widget.setValue(value) if isinstance(widget, QSpinBox) else widget.setChecked(bool(value))
            blocker.unblock()
        drawn = controller.previews.has_prompts()
        self._add.setText(self._words())
        self._add.setEnabled(drawn)
        self._next.setEnabled(drawn)
        self._reset.setEnabled(drawn)
        labels = controller.session.labels.values()
        self._undo.setEnabled(any(one.last_done is not None for one in labels))
        self._redo.setEnabled(any(one.last_undone is not None for one in labels))

    def _connect(self) -> None:
        controller = self._controller
        for signal in (
            controller.settings_changed,
            controller.labels_changed,
            controller.target_chosen,
            controller.image_chosen,
            controller.plane_changed,
            controller.draft_changed,
            controller.preview_changed,
            controller.objects_changed,
        ):
            signal.connect(self._later)
        controller.draft_changed.connect(self._forget)
        controller.message.connect(self._message.say)

    def _forget(self) -> None:
        """What was said of the last object says nothing about the prompts of the next."""
        if self._controller.previews.has_prompts():
            self._message.say("")

    def _later(self, *_: Any) -> None:
        self.refresh()

    def _words(self) -> str:
        policy, preview = self._controller.policy, self._controller.preview
        count = 1 if preview is None else max(1, len(preview))
        if policy.target == "part":
            return f"Add to object {policy.label}"
        if policy.target == "replace":
            return f"Replace object {policy.label}"
        if policy.target == "class":
            return f"Add to class {policy.class_id}"
        return "Add object" if count == 1 else f"Add {count} objects"

    def _list_kinds(self) -> None:
        policy, target = self._controller.policy, self._controller.target
        kinds: list[tuple[str, dict[str, Any]]] = [("a new object", {"target": "new", "class_id": 0})]
        classes = () if target is None else target.classes
        kinds += [(f"a new object: {one.name}", {"target": "new", "class_id": one.id}) for one in classes]
        if target is not None:
            kinds.append(("more of object", {"target": "part"}))
        kinds += [(f"pixels of class {one.name}", {"target": "class", "class_id": one.id}) for one in classes]
        if policy.target == "replace":
            kinds.append((f"object {policy.label} anew", {"target": "replace"}))
        blocker = QSignalBlocker(self._what)
        self._what.clear()
        for number, (text, changes) in enumerate(kinds):
            self._what.addItem(text, changes)
            if all(getattr(policy, name) == value for name, value in changes.items()):
                self._what.setCurrentIndex(number)
        blocker.unblock()

    def _on_what(self, number: int) -> None:
        changes = dict(self._what.itemData(number))
        if changes["target"] == "part":
            target = self._controller.target
            ids = [one.id for one in target.records()] if target is not None else []
            changes["label"] = self._controller.policy.label or max(ids, default=1)
        self._controller.set_policy(**changes)

    def _on_label(self, label: int) -> None:
        self._controller.set_policy(label=label)

    def _on_overwrite(self, checked: bool) -> None:
        self._controller.set_policy(overwrite=checked)
