"""Weights that are installed as a package; loads no network, no OpenCV and no torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE, FILE = "face_recognition_models", "models/dlib_face_recognition_resnet_model_v1.dat"


def installed_weights() -> Path | None:
    """The file of dlib's recognition network in the package of the extra `identity`; None if that is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent / FILE if found and found.origin else None
