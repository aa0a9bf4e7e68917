"""The four families of fakes and their generators: one dict, and the interface that those of a family share."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from generation.errors import GenerationError
from generation.warp import AlignedFaces, Batching, FaceClip, FaceOutput, PastedFrame, replace_faces

Family = Literal["full_face_generation", "expression_driven", "attribute_editing", "face_swap"]


@dataclass(frozen=True)
class GeneratorInfo:
    """One implementation.

    Attributes:
        family: one of `Family`; the words of the dataset's `method` column.
        location: "module:Class", imported only when it is asked for.
        licence: of code and weights together, as an SPDX expression.
        weights: names of the weight files it needs; empty where it needs none.
    """

    family: Family
    location: str
    licence: str
    weights: tuple[str, ...] = ()


# The first generator of a family is its default.
FAMILIES: dict[str, GeneratorInfo] = {
    "weightfree-swap": GeneratorInfo("face_swap", "generation.weightfree.swap:WeightfreeSwap", "Apache-2.0"),
}


class FaceSwapPipeline(Protocol):
    """What every face swap offers: aligned crops in, aligned crops and masks out.

    `prepare` looks at a pair of clips once; what it returns is handed to each call. A call is a pure function of the
    crops, that preparation, the weights and the seed, whatever the batches are.
    """

    @property
    def batching(self) -> Batching: ...

    @property
    def parameters(self) -> dict[str, Any]: ...

    def prepare(self, target: FaceClip, source: FaceClip) -> Any: ...

    def __call__(self, target: AlignedFaces, source: Any, *, seed: int = 0) -> FaceOutput: ...


def swap_clip(
    pipeline: FaceSwapPipeline, target: FaceClip, source: FaceClip, *, seed: int = 0
) -> Iterator[PastedFrame]:
    """Swaps a whole clip, streamed: the source's identity on the target's expression, pose and background.

    Args:
        pipeline: from `load_generator`.
        target, source: the two clips.
        seed: of whatever the pipeline draws.

    Yields:
        One finished picture for each target frame.

    Raises:
        FaceError, VideoError: a clip cannot be read, or does not fit its track.
    """
    prepared = pipeline.prepare(target, source)
    yield from replace_faces(target, lambda faces: pipeline(faces, prepared, seed=seed), pipeline.batching)


def generators_of(family: str) -> list[str]:
    """Names of a family's generators, the default first.

    Raises:
        GenerationError: there is no such family.
    """
    if family not in get_args(Family):
        raise GenerationError(f"{family}: no such family; use one of {', '.join(get_args(Family))}")
    return [name for name, info in FAMILIES.items() if info.family == family]


def load_generator(name: str) -> Any:
    """Imports a generator and makes it with its default settings.

    Raises:
        GenerationError: there is no such generator.
    """
    if name not in FAMILIES:
        raise GenerationError(f"{name}: no such generator; use one of {', '.join(FAMILIES)}")
    module, _, attribute = FAMILIES[name].location.partition(":")
    return getattr(importlib.import_module(module), attribute)()
