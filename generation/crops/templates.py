"""Where the five landmarks lie in aligned crops, our own and those that published networks were trained on.

All are shares of the crop's side; the publishers of the networks state the numbers in px of some grid.
"""

from __future__ import annotations

import numpy as np

from generation.arrays import Landmarks


def _shares(grid_px: float, *points: tuple[float, float], shift_px: float = 0.0) -> Landmarks:
    return np.asarray((np.array(points) + np.array([shift_px, 0.0])) / grid_px, np.float32)


_ARCFACE = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
_FFHQ = (
    *((192.98138, 239.94708), (318.90277, 240.1936), (256.63416, 314.01935)),
    *((201.26117, 371.41043), (313.08905, 371.15118)),
)
_MTCNN = (
    *((0.36562865, 0.46733799), (0.63305391, 0.46585885), (0.50019127, 0.61942959)),
    *((0.39032951, 0.77598822), (0.61178945, 0.77476328)),
)

PUBLISHED_TEMPLATES: dict[str, Landmarks] = {
    "ffhq": _shares(512, *_FFHQ),
    "arcface-112": _shares(112, *_ARCFACE),
    "arcface-128": _shares(128, *_ARCFACE, shift_px=8.0),
    "mtcnn": _shares(1, *_MTCNN),
    # Five poses of the head.
    "pose-left-profile": _shares(
        112, (51.642, 50.115), (57.617, 49.990), (35.740, 69.007), (51.157, 89.050), (57.025, 89.702)
    ),
    "pose-left": _shares(112, (45.031, 50.118), (65.568, 50.872), (39.677, 68.111), (45.177, 86.190), (64.246, 86.758)),
    "pose-frontal": _shares(
        112, (39.730, 51.138), (72.270, 51.138), (56.000, 68.493), (42.463, 87.010), (69.537, 87.010)
    ),
    "pose-right": _shares(
        112, (46.845, 50.872), (67.382, 50.118), (72.737, 68.111), (48.167, 86.758), (67.236, 86.190)
    ),
    "pose-right-profile": _shares(
        112, (54.796, 49.990), (60.771, 50.115), (76.673, 69.007), (55.388, 89.702), (61.257, 89.050)
    ),
}
# About a mean frontal face, from above the brows to below the chin.
TEMPLATE: Landmarks = np.array(
    [[0.35, 0.38], [0.65, 0.38], [0.50, 0.555], [0.377, 0.727], [0.623, 0.727]], dtype=np.float32
)
# By name, for `Batching.template`. "head" shows the head with its hair, down to the shoulders; "styleganex" has the
# eyes in the middle, an eighth of the side apart.
TEMPLATES: dict[str, Landmarks] = {
    **PUBLISHED_TEMPLATES,
    "face": TEMPLATE,
    "head": np.array([0.5, 0.40], np.float32) + (TEMPLATE - np.array([0.5, 0.38], np.float32)) / 2.6,
    # Where MTCNN's landmarks lie in the crops that dlib cuts by its own 68, on seven filmed people.
    "dlib-150": _shares(1, (0.316, 0.310), (0.684, 0.310), (0.5, 0.524), (0.348, 0.704), (0.652, 0.704)),
    "portrait": np.array([0.5, 0.44], np.float32) + (TEMPLATE - np.array([0.5, 0.38], np.float32)) / 1.8,
    "styleganex": np.array([0.5, 0.5], np.float32) + (TEMPLATE - np.array([0.5, 0.38], np.float32)) / 2.4,
}
# Groups, of which each frame takes the template that its landmarks fit best.
TEMPLATE_GROUPS: dict[str, tuple[str, ...]] = {
    "poses": ("pose-left-profile", "pose-left", "pose-frontal", "pose-right", "pose-right-profile"),
}
