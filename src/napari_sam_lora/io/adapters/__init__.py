"""Adapters handed on: their card, and ONNX files."""
