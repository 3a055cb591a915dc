"""Readers and writers that napari calls through the npe2 manifest."""
