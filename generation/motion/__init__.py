"""Pose, expression and motion of a face, measured within one clip and without weights.

In: aligned crops RGB uint8 (S, S, 3) and their landmarks. Out: a neutral crop and the features of every frame
(`expression`, `measure`), dense motion, and the part of it that is the head's (`rigid`), on small grids over the crop
(`fields`). The weightfree generators stand on it.
"""
