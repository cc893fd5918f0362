"""Model artefacts: ONNX export and scan, encrypted packages, sandboxed runtime."""
