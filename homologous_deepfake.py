"""Homologous_deepfake: 100 interview subjects filmed once, and every fake made from those same 100 faces.

This file is the one place that says what the dataset is: its configs, columns, methods, folds and splits. It needs
the standard library and `datasets`, nothing else, reads a workspace, and serves twice:

- with datasets 4 and later as a module: `load("swap_video", WORKSPACE)`, or the class itself,
  `HomologousDeepfake(config_name="swap_video", data_dir=WORKSPACE)`;
- with datasets 3.6 also as a loading script:
  `load_dataset(FOLDER_OF_THIS_FILE, "swap_video", data_dir=WORKSPACE, trust_remote_code=True)`.
"""

import csv
import hashlib
import json
import os
import re
from typing import Any
from typing import NamedTuple

import datasets

VERSION = "1.0.0"

LABELS = ["real", "fake"]
METHODS = ["real", "full_face_generation", "expression_driven", "attribute_editing", "face_swap"]
GENDERS = ["male", "female"]
ATTRIBUTES = ["age", "hair"]
SPLIT_FOLDS = {"train": (2, 3, 4), "validation": (1,), "test": (0,)}
CROSSING = "crossing"  # split of imported fakes whose two identities lie in different folds
METADATA = "metadata"  # config of releases only: the common columns of all subsets' rows, without media

_SPLIT_OF_FOLD = {fold: split for split, folds in SPLIT_FOLDS.items() for fold in folds}


class Subset(NamedTuple):
    """One config: its name is also its folder in a workspace."""

    name: str
    method: str  # one of METHODS; everything but "real" is fake
    media: str  # "video" or "image"
    count: int  # files of a full release
    pattern: str  # path below the workspace; {target}, {source}, {identity}, {attribute}, {number}
    description: str  # for the card


_RAW = Subset("raw_video", "real", "video", 100, "raw_video/{identity}.mp4", "One clip per person, 1280x720, 30 fps.")
_FACE = Subset("face_video", "real", "video", 100, "face_video/{identity}.mp4", "The face of each clip, 350x350.")
