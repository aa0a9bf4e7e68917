"""The prompts of full-face generation: any number of them, planned so that attributes are spread evenly.

Within every gender each value of an attribute comes up once in a block as long as the list of its values, in an order
of its own drawn for each block. So any number of images, from a handful to the catalogue's 6802, is balanced to one
image of each value, and attributes are independent of each other.

A generator says which attributes it follows (`FaceImagePipeline.followed_attributes`); only these are recorded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Gender = Literal["male", "female"]

GENDERS: tuple[Gender, ...] = ("male", "female")
AGES = {"18-29": "in the twenties", "30-39": "in the thirties", "40-49": "in the forties", "50-65": "in the fifties"}
HAIR: dict[Gender, tuple[str, ...]] = {
    "male": ("short black hair", "side-parted black hair", "a crew cut", "short dark brown hair"),
    "female": ("long straight black hair", "a black bob", "black hair tied back", "shoulder-length dark brown hair"),
}
EXPRESSIONS = ("neutral expression", "slight smile", "speaking")
LIGHTS = ("even light", "soft light from the left", "soft light from the right", "warm light")
ATTRIBUTES = frozenset({"gender", "age", "hair", "expression", "light"})

_NOUNS = {"male": "man", "female": "woman"}
_WOMAN = re.compile(r"\b(?:woman|women|female|girl|lady)\b", re.IGNORECASE)
_MAN = re.compile(r"\b(?:man|men|male|boy|gentleman)\b", re.IGNORECASE)


@dataclass(frozen=True)
class PlannedPrompt:
    """One image to be made.

    Attributes:
        number: from 1, as in the file's name.
        text: the prompt, English.
        seed: of the image, 0 to 2**48 - 1.
        attributes: those of `ATTRIBUTES`; JSON values.
    """

    number: int
    text: str
    seed: int
    attributes: dict[str, Any]

    def limited_to(self, names: Collection[str]) -> PlannedPrompt:
        """What is true of an image by a generator that follows these attributes only; the text is empty without any.

        Args:
            names: some of `ATTRIBUTES`; with all of them the prompt stays as it is.
        """
        if set(names) >= ATTRIBUTES:
            return self
        kept = {name: value for name, value in self.attributes.items() if name in names}
        noun = _NOUNS.get(kept.get("gender", ""), "person")
        age = f" {AGES[kept['age']]}" if "age" in kept else ""
        parts = [f"portrait photograph of a {noun}{age}", *(v for n, v in kept.items() if n not in ("gender", "age"))]
        return replace(self, text=", ".join(parts) if kept else "", attributes=kept)


def plan_prompt(number: int, seed: int = 0) -> PlannedPrompt:
    """Plans an image: a function of its number and the plan's seed, whatever number of images is made.

    Args:
        number: from 1.
        seed: of the whole plan.

    Raises:
        ValueError: the number is below 1.
    """
    if number < 1:
        raise ValueError(f"images are numbered from 1, not {number}")
    index = number - 1
    gender = GENDERS[_choose(index, len(GENDERS), seed, "gender")]
    within = index // len(GENDERS)  # of this gender: every pair of numbers has one of each
    values = {"age": tuple(AGES), "hair": HAIR[gender], "expression": EXPRESSIONS, "light": LIGHTS}
    chosen = {
        name: options[_choose(within, len(options), seed, f"{gender} {name}")] for name, options in values.items()
    }
    return PlannedPrompt(
        number,
        _text(gender, chosen),
        int.from_bytes(_digest(seed, "image", number)[:6], "big"),
        {"gender": gender, **chosen},
    )


def gender_of(prompt: str) -> Gender | None:
    """Which gender a prompt asks for; None where it names none or both."""
    is_woman, is_man = bool(_WOMAN.search(prompt)), bool(_MAN.search(prompt))
    if is_woman == is_man:
        return None
    return "female" if is_woman else "male"


def _text(gender: Gender, chosen: dict[str, str]) -> str:
    return (
        f"portrait photograph of a Chinese {_NOUNS[gender]} {AGES[chosen['age']]}, {chosen['hair']}, "
        f"{chosen['expression']}, {chosen['light']}, looking at the camera"
    )


def _choose(index: int, num_values: int, seed: int, name: str) -> int:
    """Which of the values an image gets: each block of `num_values` images has a permutation of its own."""
    block, at = divmod(index, num_values)
    return _permutation(num_values, seed, name, block)[at]


@lru_cache(maxsize=32)  # of every choice of two genders, where images are planned in order
def _permutation(num_values: int, seed: int, name: str, block: int) -> list[int]:
    draws = np.random.default_rng(int.from_bytes(_digest(seed, name, block)[:8], "big"))
    return [int(number) for number in draws.permutation(num_values)]


def _digest(seed: int, name: str, number: int) -> bytes:
    return hashlib.sha256(f"{seed} {name} {number}".encode()).digest()
