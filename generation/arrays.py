"""The arrays that rooms hand to each other, by name.

Points count from the centre of the upper left pixel, x to the right and y down, as OpenCV's do. Where a picture changes
its form, the line above says from what to what: `# THWC uint8 -> TCHW float [-1, 1]`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""One picture: RGB uint8 (H, W, 3); a clip is (T, H, W, 3). Crops are square: (S, S, 3)."""

Floats = NDArray[np.float32]
"""float32 of any shape and range; whoever takes or returns it names both."""
