"""Face swap with SimSwap."""
