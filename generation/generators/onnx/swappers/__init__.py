"""One TOML file for each family of published networks; the keys are those of `generation.generators.onnx.swapper`."""
