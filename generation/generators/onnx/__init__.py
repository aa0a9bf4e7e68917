"""Face swap networks in ONNX."""
