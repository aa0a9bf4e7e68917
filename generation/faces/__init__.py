"""Finding a face in a video, following it, and cutting its square crop out of every frame."""
