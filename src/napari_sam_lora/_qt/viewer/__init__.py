"""Connection of a napari viewer to its session; shared by all panels."""
