"""Aligned crops of faces, their masks, and the way back into the frame."""
