"""User interface: the only package that imports Qt and napari."""
