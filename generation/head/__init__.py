"""Where hair, skin and brows of a head are, frame by frame, without weights."""
