"""Homologous_deepfake: 100 interview subjects filmed once, and every fake made from those same 100 faces.

This file is the one place that says what the dataset is: its configs, columns, methods, folds and splits. It needs
the standard library and `datasets`, nothing else, and serves twice:

- with datasets 4 and later as a module: `HomologousDeepfake(config_name="swap_video", data_dir=WORKSPACE)`;
- with datasets 3.6 also as a loading script: `load_dataset(FOLDER, "swap_video", trust_remote_code=True)`.
"""

import dataclasses

import datasets

VERSION = "1.0.0"

LABELS = ["real", "fake"]
METHODS = ["real", "full_face_generation", "expression_driven", "attribute_editing", "face_swap"]
GENDERS = ["male", "female"]
ATTRIBUTES = ["age", "hair"]
SPLIT_FOLDS = {"train": (2, 3, 4), "validation": (1,), "test": (0,)}
CROSSING = "crossing"  # split of imported fakes whose two identities lie in different folds


@dataclasses.dataclass(frozen=True)
class Subset:
    """One config: its name is also its folder in a workspace.

    Attributes:
        method: one of METHODS; everything but "real" is fake.
        media: "video" or "image".
        count: files of a full release.
        pattern: path of a file below the workspace; {target}, {source}, {identity}, {attribute}, {number}.
        description: one sentence for the card.
    """

    name: str
    method: str
    media: str
    count: int
    pattern: str
    description: str


SUBSETS = {
    subset.name: subset
    for subset in (
        Subset("raw_video", "real", "video", 100, "raw_video/{identity}.mp4", "One clip per person, 1280x720, 30 fps."),
        Subset("face_video", "real", "video", 100, "face_video/{identity}.mp4", "The face of each clip, 350x350."),
        Subset(
            "avatarify_video",
            "expression_driven",
            "video",
            100,
            "avatarify_video/{target}_{source}.mp4",
            "The target's face driven by the source's motion.",
        ),
        Subset(
            "edit_video",
            "attribute_editing",
            "video",
            200,
            "edit_video/{attribute}/{identity}.mp4",
            "Age or hair colour edited.",
        ),
        Subset(
            "swap_video",
            "face_swap",
            "video",
            100,
            "swap_video/{target}_{source}.mp4",
            "The source's identity on the target's expression and background.",
        ),
        Subset("GAN_images", "full_face_generation", "image", 6802, "GAN_images/{number}.png", "Generated faces."),
    )
}
