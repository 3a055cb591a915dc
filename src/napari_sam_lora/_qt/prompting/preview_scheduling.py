"""Preview of the present prompts: requested shortly after each change, shown when it is computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_sam_lora._qt.layers.active_layers import ActiveLayers
from napari_sam_lora._qt.prompting.preview_layer import PreviewLayer
from napari_sam_lora._qt.viewer.thread_bridge import ThreadBridge
from napari_sam_lora.session import MaskOptions, Preview, Session

PREVIEW_DELAY_MS = 60
EMBED_DELAY_MS = 250
NEIGHBOURS = (1, -1, 2, -2)


class PreviewScheduler(QObject):
    """Request and show previews of the prompts of the shown plane.

    Signals
    -------
    preview_changed, options_changed : ()
    model_needed : ()
        There are prompts but no model.
    waiting_changed : (bool)
        Whether the preview is out of date.
    """

    preview_changed = Signal()
    options_changed = Signal()
    model_needed = Signal()
    waiting_changed = Signal(bool)

    def __init__(
        self, viewer: Any, session: Session, active_layers: ActiveLayers, bridge: ThreadBridge, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._session, self._active_layers, self._bridge = session, active_layers, bridge
        self.options = MaskOptions()
        self.use_contrast = False
        self.preview: Preview | None = None
        self.layer = PreviewLayer(viewer)
        self._pending: Future[Preview] | None = None
        self._is_fresh = True
        self._when_fresh: Callable[[Preview], None] | None = None
        self._contrast_layer: Any | None = None
        self._preview_timer = self._timer(PREVIEW_DELAY_MS, self._request)
        self._embed_timer = self._timer(EMBED_DELAY_MS, self._embed)
        active_layers.plane_changed.connect(self._embed_timer.start)
        active_layers.image_chosen.connect(self._on_image)
        active_layers.image_moved.connect(self._on_moved)

    @property
    def is_waiting(self) -> bool:
        """Return whether the preview is out of date: prompts or options have changed since."""
        return not self._is_fresh

    def has_prompts(self) -> bool:
        """Return whether there are prompts in the shown plane."""
        plane = self._active_layers.plane
        return plane is not None and len(self._session.prompts.draft(plane)) > 0

    def follow_draft(self) -> None:
        """Update the preview after the prompts have changed."""
        if self.has_prompts():
            self.refresh()
        else:
            self.forget()

    def refresh(self) -> None:
        """Request the preview again after a short delay."""
        if self.has_prompts():
            self._set_fresh(False)
            self._preview_timer.start()

    def follow_model(self) -> None:
        """Update preview and embeddings after another model or adapter is in use."""
        self.refresh()
        self._embed_timer.start()

    def set_options(self, **changes: Any) -> None:
        """Change fields of `MaskOptions`."""
        options = replace(self.options, **changes)
        if options != self.options:
            self.options = options
            self.options_changed.emit()
            self.refresh()

    def set_use_contrast(self, use: bool) -> None:
        """Let the model see the image with the contrast limits of its layer, or as it is."""
        self.use_contrast = use
        self._follow_contrast()

    def when_fresh(self, call: Callable[[Preview], None] | None, instead: bool = True) -> None:
        """Call back once with the preview of the present prompts, as soon as it is up to date.

        Parameters
        ----------
        call : callable or None
            Called with the preview; None cancels a waiting callback.
        instead : bool
            Replace a callback that waits already; otherwise that one stays.
        """
        if instead or self._when_fresh is None:
            self._when_fresh = call
        if call is not None:
            if self._is_fresh and self.preview is not None:
                self._deliver()
            elif not self._preview_timer.isActive() and self._pending is None:
                self.refresh()

    def forget(self) -> None:
        """Drop the preview and show nothing."""
        self._preview_timer.stop()
        self._pending = self._when_fresh = None
        self._set_fresh(True)
        if self.preview is not None:
            self.preview = None
            self.layer.clear()
            self.preview_changed.emit()

    def close(self) -> None:
        """Stop the timers and remove the preview from the viewer."""
        self._preview_timer.stop()
        self._embed_timer.stop()
        self.forget()
        self._stop_following()
        self.layer.remove()

    def _request(self) -> None:
        plane = self._active_layers.plane
        if plane is None or not self.has_prompts():
            self.forget()
        elif self._session.models.model is None:
            self.model_needed.emit()
        else:
            future = self._pending = self._session.prompts.preview(plane, self.options)
            self._bridge.when_done(future, lambda preview: self._show(future, preview), lambda _: self._fail(future))

    def _show(self, future: Future[Preview], preview: Preview) -> None:
        image = self._active_layers.image_layer
        if future is not self._pending or preview.plane != self._active_layers.plane or image is None:
            return
        self._pending = None
        self.preview = preview
        found = sorted(zip(preview.objects, preview.masks, strict=True), key=lambda pair: pair[1].score)
        # The best one on top, as in a commit.
        self.layer.show(image, preview.plane, preview.shape, [(obj + 1, mask.region) for obj, mask in found])
        self._set_fresh(not self._preview_timer.isActive())
        self.preview_changed.emit()
        if self._is_fresh:
            self._deliver()

    def _fail(self, future: Future[Preview]) -> None:
        if future is self._pending:
            self._pending = self._when_fresh = None
            self._set_fresh(True)

    def _deliver(self) -> None:
        call, self._when_fresh = self._when_fresh, None
        if call is not None and self.preview is not None:
            call(self.preview)

    def _set_fresh(self, fresh: bool) -> None:
        if fresh != self._is_fresh:
            self._is_fresh = fresh
            self.waiting_changed.emit(not fresh)

    def _embed(self) -> None:
        """Encode the shown plane and its neighbours, so that the first prompt there is answered quickly."""
        plane = self._active_layers.plane
        if plane is None or self._session.models.model is None or self.options.window is not None:
            return
        neighbours = [plane.neighbour(step) for step in NEIGHBOURS] if plane.index else []
        self._session.prompts.embed([plane, *neighbours])

    def _on_image(self) -> None:
        QTimer.singleShot(0, self._remove_empty)  # not in the middle of napari's own removal of a layer
        self._follow_contrast()

    def _remove_empty(self) -> None:
        if self.preview is None:
            self.layer.remove()

    def _follow_contrast(self) -> None:
        self._stop_following()
        image = self._active_layers.image_layer
        if self.use_contrast and image is not None and not image.rgb:
            self._contrast_layer = image
            image.events.contrast_limits.connect(self._on_contrast)
        self._on_contrast()

    def _stop_following(self) -> None:
        if self._contrast_layer is not None:
            self._contrast_layer.events.contrast_limits.disconnect(self._on_contrast)
            self._contrast_layer = None

    def _on_contrast(self, event: Any = None) -> None:
        layer = self._contrast_layer
        limits = None if layer is None else tuple(float(limit) for limit in layer.contrast_limits)
        if limits is None or limits[0] < limits[1]:
            self.set_options(window=limits)

    def _on_moved(self) -> None:
        if self._active_layers.image_layer is not None:
            self.layer.follow(self._active_layers.image_layer)

    def _timer(self, milliseconds: int, call: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.timeout.connect(call)
        return timer
