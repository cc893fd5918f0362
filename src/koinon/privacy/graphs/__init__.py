"""Graphs made elsewhere, such as ONNX models, run on secret arrays."""
