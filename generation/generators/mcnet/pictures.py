"""Pictures as MCNET's demo reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def crops_to_input(pictures: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """RGB uint8 (N, H, W, 3) -> RGB float32 [0, 1] (N, side, side, 3), the aspect ratio not kept.

    Where a side shrinks a Gaussian goes before linear interpolation between the centres of pixels.
    """
    # uint8 [0, 255] -> float64 [0, 1]
    values = pictures / 255
    size = pictures.shape[1:3]
    if size != (side, side):
        sigma = [max(0.0, (length / side - 1) / 2) for length in size]
        values = np.stack([_resized(one, sigma, side) for one in values])
    return values.astype(np.float32)


def _resized(picture: NDArray[np.float64], sigma: list[float], side: int) -> NDArray[np.float64]:
    smooth = ndimage.gaussian_filter(picture, (*sigma, 0), mode="mirror", truncate=4) if any(sigma) else picture
    factors = (side / picture.shape[0], side / picture.shape[1], 1)
    result = ndimage.zoom(smooth, factors, order=1, mode="mirror", grid_mode=True)
    return np.asarray(np.clip(result, picture.min(), picture.max()), np.float64)
