"""What makes fakes: a registry of generators by family, how one is loaded, and one room for each implementation."""
