"""Panel section to choose, download and load a model, and to choose its device and input size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QFormLayout, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_sam_lora._qt.viewer.controller import Controller
from napari_sam_lora._qt.viewer.preferences import RememberedSettings, preferences
from napari_sam_lora._qt.widgets.controls import Notice, button
from napari_sam_lora._qt.widgets.layout import row
from napari_sam_lora._qt.widgets.work_bar import WorkBar
from napari_sam_lora.model.download import is_available
from napari_sam_lora.model.registry import MODELS, ModelInfo

OTHER_FILE = "Another file…"
NO_MODEL = "No model is loaded yet; the default one is loaded with the first prompt."
MAX_FILES = 5
SIZES = (1024, 768, 512, 384, 256)
# Input size at which models of a family were trained; 1024 for all others.
NATIVE_SIZES = {"nano": 256}
DEVICE_NAMES = {"cpu": "processor (CPU)", "cuda": "graphics card (CUDA)", "mps": "Apple graphics (MPS)"}
SHORT_DEVICE_NAMES = {"cpu": "processor", "cuda": "graphics card", "mps": "Apple graphics"}


class ModelBox(QWidget):
    """Choose the model that segments: a named one, downloaded on first use, or a checkpoint file.

    Loading another model keeps prompts and labels. Opening the box does not import torch.

    Parameters
    ----------
    controller : Controller
    parent : QWidget, optional
    """

    def __init__(self, controller: Controller, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._controller = controller
        self._remembered = RememberedSettings("models")
        self._loading = controller.model_loader.loading
        self._failure = ""
        chosen = preferences()
        self.models = QComboBox()
        self.models.setToolTip("The Segment Anything Model that turns your prompts into masks")
        self.about = Notice()
        self.devices = QComboBox()
        self.devices.setToolTip("Where the model computes. Automatic uses a graphics card if there is one.")
        self.sizes = QComboBox()
        self.sizes.setToolTip(
            "Pixels along each side of the image as the model sees it. Smaller is much faster but shows less detail."
        )
        self.use = button("Use", "Load this model; your prompts and labels stay", self._load)
        self.bar = WorkBar()
        self.cancel = button("Cancel", "Stop loading; the model in use stays", self._cancel)
        self.working = row(self.bar, self.cancel)
        self.state = Notice()
        self._lay_out()
        self._fill(chosen.model)
        self._fill_devices(chosen.device)
        self._connect()
        self._refresh()

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.DontWrapRows)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for combo in (self.models, self.devices, self.sizes):
            combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            combo.setMinimumContentsLength(8)
        form.addRow(self.models)
        form.addRow(self.about)
        form.addRow("Device", self.devices)
        form.addRow("Input size", self.sizes)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        for widget in (self.use, self.working, self.state):
            layout.addWidget(widget)

    def _connect(self) -> None:
        controller = self._controller
        self.models.activated.connect(self._on_model)
        self.devices.currentIndexChanged.connect(self._refresh)
        self.sizes.currentIndexChanged.connect(self._refresh)
        controller.events.model_changed.connect(self._on_model_changed)
        controller.model_loader.loading_changed.connect(self._on_loading)
        controller.events.progressed.connect(self._on_progress)

    # Choosing

    @property
    def chosen(self) -> str:
        """Name of a registered model, or path of a checkpoint file."""
        return str(self.models.currentData() or "")

    def choose(self, name: str | Path) -> None:
        """Select a registered model or a checkpoint file without loading it."""
        if self.models.findData(str(name)) < 0:
            self._remember_file(str(name))
            self._fill(str(name))
        self.models.setCurrentIndex(self.models.findData(str(name)))
        self._fill_sizes()
        self._refresh()

    def _fill(self, chosen: str) -> None:
        files = [path for path in self._remembered.read().get("files", []) if Path(str(path)).is_file()]
        with signals_blocked(self.models):
            self.models.clear()
            for info in MODELS.values():
                self.models.addItem(info.name, info.name)
                self.models.setItemData(self.models.count() - 1, info.description, Qt.ItemDataRole.ToolTipRole)
            for path in dict.fromkeys([*files, *([] if chosen in MODELS else [chosen])]):
                self.models.addItem(Path(path).name, path)
                self.models.setItemData(self.models.count() - 1, path, Qt.ItemDataRole.ToolTipRole)
            self.models.addItem(OTHER_FILE, None)
            self.models.setCurrentIndex(max(0, self.models.findData(chosen)))
        self._shown = self.models.currentIndex()
        self._fill_sizes()

    def _fill_devices(self, chosen: str) -> None:
        """List the devices; before a model is loaded only "auto" and the CPU, since torch is not imported yet."""
        found = None if self._controller.session.models.model is None else _devices()
        auto = "automatic" if found is None else f"auto: {SHORT_DEVICE_NAMES.get(found[0], found[0])}"
        with signals_blocked(self.devices):
            self.devices.clear()
            self.devices.addItem(auto, "auto")
            for name in dict.fromkeys([*reversed(found or ["cpu"]), *([] if chosen == "auto" else [chosen])]):
                self.devices.addItem(_device_name(name), name)
            self.devices.setCurrentIndex(max(0, self.devices.findData(chosen)))

    def _fill_sizes(self) -> None:
        info = MODELS.get(self.chosen)
        native = NATIVE_SIZES.get(info.family, SIZES[0]) if info is not None else None
        kept = self.sizes.currentData()
        with signals_blocked(self.sizes):
            self.sizes.clear()
            self.sizes.addItem("as trained" if native is None else f"{native}, as trained", None)
            for size in SIZES:
                if size != native:
                    self.sizes.addItem(str(size), size)
            self.sizes.setCurrentIndex(max(0, self.sizes.findData(kept)))

    def _on_model(self, index: int) -> None:
        if self.models.itemData(index) is None:
            self.models.setCurrentIndex(self._shown)
            self._ask_for_file()
        self._shown = self.models.currentIndex()
        self._failure = ""
        self._fill_sizes()
        self._refresh()

    def _ask_for_file(self) -> None:
        kinds = "SAM checkpoints (*.safetensors *.pth *.pt);;All files (*)"
        path, _ = QFileDialog.getOpenFileName(self, "Choose a SAM checkpoint", "", kinds)
        if path:
            self.choose(path)

    def _remember_file(self, path: str) -> None:
        files = [other for other in self._remembered.read().get("files", []) if other != path]
        self._remembered.update(files=[path, *files][:MAX_FILES])

    # Loading

    def _load(self) -> None:
        self._failure = ""
        self._controller.model_loader.load_model(self.chosen, self.devices.currentData(), self.sizes.currentData())

    def _cancel(self) -> None:
        self.cancel.setEnabled(False)
        self.state.say("Stopping…")
        self._controller.session.models.cancel("model")

    def _on_loading(self, name: str) -> None:
        self._loading, self._failure = name, self._controller.model_loader.failure
        self.bar.setRange(0, 0)
        self._refresh()

    def _on_progress(self, key: Any, done: int, total: int) -> None:
        if not (isinstance(key, tuple) and key and key[0] == "model" and self._loading):
            return
        if total <= 0 or done >= total:
            self.bar.setRange(0, 0)
            self.state.say(f"Loading {Path(self._loading).name}…")
            return
        megabytes = 2**20
        self.bar.setRange(0, max(1, total // megabytes))
        self.bar.setValue(done // megabytes)
        model = self._controller.session.models.model
        meanwhile = "" if model is None else f" You can go on working with {model.name}."
        self.state.say(f"Downloading {self._loading}: {done // megabytes} of {total // megabytes} MB…{meanwhile}")

    def _on_model_changed(self) -> None:
        self._failure = ""
        self._fill_devices(self.devices.currentData())
        self._refresh()

    # Showing

    def _refresh(self, _: int = 0) -> None:
        info, model = MODELS.get(self.chosen), self._controller.session.models.model
        self.about.say(_describe_model(info) if info is not None else f"Checkpoint file {self.chosen}")
        if info is None or is_available(info):
            self.use.setText("Use this model")
        else:
            self.use.setText(f"Download ({info.megabytes} MB) and use")
        self.use.setVisible(not self._loading)
        self.use.setEnabled(not self._is_in_use(model))
        self.working.setVisible(bool(self._loading))
        self.cancel.setEnabled(True)
        if self._loading:
            self.state.say(f"Loading {Path(self._loading).name}…")
        elif self._failure:
            self.state.say(self._failure)
        elif model is None:
            self.state.say(NO_MODEL)
        else:
            size = model.predictor.input_size
            self.state.say(f"In use: {model.name} on the {_device_name(str(model.device))}, input {size} pixels.")

    def _is_in_use(self, model: Any | None) -> bool:
        if model is None or model.name != (self.chosen if self.chosen in MODELS else Path(self.chosen).name):
            return False
        device, size = self.devices.currentData(), self.sizes.currentData()
        wanted = _devices()[0] if device == "auto" else device
        native = self.sizes.currentText().split(",")[0]
        wanted_size = size or (int(native) if native.isdigit() else model.predictor.input_size)
        return str(model.device).split(":")[0] == wanted.split(":")[0] and model.predictor.input_size == wanted_size


def _describe_model(info: ModelInfo) -> str:
    """Describe a model with its origin, licence and size."""
    licence = info.licence.replace("-", "\u2011")  # non-breaking hyphens
    if info.asset is not None:
        return f"{info.description} Comes with this plugin; licence {licence}."
    place = "on this computer" if is_available(info) else "not downloaded yet"
    return f"{info.description} From {info.source}; licence {licence}; {info.megabytes} MB, {place}."


def _devices() -> list[str]:
    """Return the devices of torch, first the one that "auto" takes. Imports torch: call it once a model is loaded."""
    import torch  # noqa: PLC0415

    found = [f"cuda:{number}" if number else "cuda" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def _device_name(name: str) -> str:
    kind, _, number = name.partition(":")
    label = DEVICE_NAMES.get(kind, kind)
    return f"{label} {int(number) + 1}" if number and int(number) else label
