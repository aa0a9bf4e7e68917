"""Descriptions of published networks, one TOML file each; for the keys see `generation.generators.onnx.swapper`."""
