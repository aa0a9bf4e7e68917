"""What each family of face swap networks in ONNX takes and gives: NAME.toml."""
