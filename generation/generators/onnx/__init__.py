"""Face swap by networks in ONNX: in go a file and the description of its inputs and output, out comes a pipeline."""
