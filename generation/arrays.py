"""The arrays that rooms hand to each other, by name: shape, dtype and range of each.

Points count from the centre of the upper left pixel, x to the right and y down, as OpenCV's do. Where a picture changes
its form, the line above says from what to what: `# THWC uint8 -> TCHW float [-1, 1]`. A leading axis (T of a clip, N of
a batch) is said where it is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""One picture: RGB uint8 (H, W, 3); a clip is (T, H, W, 3). Crops are square: (S, S, 3)."""

Grey = NDArray[np.uint8]
"""One grey picture: uint8 (H, W), 0 is black and 255 white."""

FloatImage = NDArray[np.float32]
"""One picture for arithmetic: RGB float32 (H, W, 3), 0 is black and 1 white."""

Mask = NDArray[np.float32]
"""How much of each pixel is replaced: float32 (H, W), 0 keeps the target's pixel, 1 replaces it."""

Landmarks = NDArray[np.float32]
"""Five points of a face: float32 (5, 2), x and y: eyes, nose tip, mouth corners, each pair from left to right.

In px of the frame or crop, or where that is said, as shares of the crop's side.
"""

Boxes = NDArray[np.floating[Any]]
"""Boxes of faces: float (4,), x0, y0, x1, y1 in px; may reach beyond the picture."""

Floats = NDArray[np.float32]
"""float32 of any shape and range; whoever takes or returns it names both."""
