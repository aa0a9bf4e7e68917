"""Full-face generation without weights: portraits of nobody, from a space fitted to the crops of a few people.

A portrait is drawn in two parts. The codes of shape and tone are drawn from the Gaussians of `FaceSpace`, around the
people of the requested gender, and the proportions of head, eyes, nose and mouth are changed. Detail comes from
examples that fit together: head, hair and shoulders of one person, eyes, nose and mouth of three others while there are
enough, each moved into the drawn shape, brought into one light and blended. Background, clothes, complexion and camera
are drawn too; the camera shows nothing but what was filmed. The portrait is measured against all examples and drawn
again where it comes too near to one of them.

Fitted to seven real people, who are 0.49 to 0.91 apart by dlib's network, 42 portraits were 0.44 to 0.65 from the
nearest of them, in the median 0.53, and one of them below 0.45; fitted to two or three people, one in fourteen was.
`tooling verify` finds those, and they are drawn again.

Of a prompt the gender is read, where the space has people of both, and the direction and warmth of the light:
`followed_attributes`. Age, hair and expression are those of the examples.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from generation.errors import GenerationError
from generation.generators.base import FaceImagePipeline
from generation.generators.weightfree.portrait.fitting import FitSettings, Person, fit_space
from generation.generators.weightfree.portrait.framing import VIEW
from generation.generators.weightfree.portrait.painting import Painter
from generation.generators.weightfree.portrait.space import FaceSpace

VERSION = 2


@dataclass(frozen=True)
class FaceSettings:
    """Settings of `WeightfreeFaces`.

    Attributes:
        side_px: of the portraits.
        version: of the method; another one makes other portraits and fits other spaces.
    """

    side_px: int = 350
    version: int = VERSION


class WeightfreeFaces(FaceImagePipeline):
    """Portraits from a fitted space; `fit` makes one, `save_pretrained` keeps it.

    Args:
        face_space: the fitted space; without it nothing can be made.
        settings: see `FaceSettings`.
    """

    settings_class = FaceSettings
    settings: FaceSettings
    _optional_components = ["face_space"]  # noqa: RUF012 - diffusers reads a list

    def __init__(self, face_space: FaceSpace | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._known: Painter | None = None
        self.register_modules(face_space=face_space)

    @classmethod
    def fit(cls, people: Sequence[Person], *, side_px: int = 350, examples_per_person: int = 8) -> Self:
        """Fits a space to clips of people and returns the pipeline over it; memory is that of the examples.

        Args:
            people: two at least; a new face is drawn from those of one gender where there are two of it.
            side_px: of the portraits.
            examples_per_person: frames kept of each person.

        Raises:
            GenerationError: fewer than two people, or an unknown gender.
            FaceError, VideoError: a clip cannot be read, or does not fit its track.
        """
        space = fit_space(people, FitSettings(round(side_px / VIEW), examples_per_person))
        return cls(space, side_px=side_px)

    @classmethod
    def is_current(cls, folder: Path) -> bool:
        """Whether a folder was saved by this version of the method; another one, or a damaged one, is fitted again."""
        try:
            return bool(cls.load_config(folder).get("version") == VERSION)
        except OSError:
            return False

    def make_images(self, prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One portrait for each prompt and seed: RGB uint8 (N, S, S, 3).

        Raises:
            GenerationError: the pipeline has not been fitted; or a portrait came too near to an example in every draw.
        """
        painter = self._painter
        return np.stack([painter.paint(one, seed) for one, seed in zip(prompts, seeds, strict=True)])

    @classmethod
    def followed_attributes(cls, genders: Collection[str] = ()) -> frozenset[str]:
        """The light, and the gender where there are people of both; age, hair and expression are the examples'."""
        return frozenset({"light", "gender"} if {"male", "female"} <= set(genders) else {"light"})

    @property
    def _painter(self) -> Painter:
        if self.face_space is None:
            raise GenerationError("weightfree-faces is not fitted to any faces; fit it, or name a fitted folder")
        if self._known is None or self._known.space is not self.face_space:
            self._known = Painter(self.face_space, self.settings.side_px)
        return self._known
