"""Expression driving with MCNET."""
