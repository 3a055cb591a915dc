"""DICOM: headers, pixels, volumes, time series and segmentations."""
