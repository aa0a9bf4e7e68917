"""One face of a video: detected, followed, measured, and the part of a source video that shows it best.

In: frames RGB uint8 (H, W, 3) or a surveyed source video.
Out: boxes and landmarks of single frames (`detector`); a `FaceTrack` of a clip and its square crops (`follow`, `track`,
`crop`); the start of the best part of a source (`window`, `footage`); the embedding of a person (`identity`, with the
weights of `installed`). `appearance` measures turn, sharpness, colours, cuts and freezes for all of them; `upright`
finds turned faces. `cascade` runs the networks of the detector. Raises FaceError if there is no usable face.
"""
