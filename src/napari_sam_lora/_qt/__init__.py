"""The widgets: the only room that imports Qt and napari."""
