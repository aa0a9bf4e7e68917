"""Descriptions of published networks, one TOML file each; the keys are those of `generation.generators.onnx.swapper`."""
