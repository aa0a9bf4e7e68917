"""The `tooling` command."""
