"""Where hair, skin and brows of a head are, frame by frame, without weights.

In: a `FaceClip`, cut by the template "head". Out: a `HeadModel` from a few key frames (`segmentation`, which `cutting`
cuts apart by what `anatomy` knows of heads), and for every other frame the masks of hair and skin, float32 (S, S),
fitted to its strands (`matting`, by the filter of `guided`). `analysis` measures positions and colours in head crops.
"""
