"""The four families of fakes and their generators: one dict.

A generator is a pipeline of `generation.generators.base`. Some need published weights, converted beforehand with
`tooling weights convert`; the default of each family needs none. Besides the names in `GENERATORS`,
`diffusers:FOLDER_OR_REPO` names a pipeline of diffusers itself and `onnx:FILE` a face swap network in ONNX.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from generation.errors import GenerationError

Family = Literal["full_face_generation", "expression_driven", "attribute_editing", "face_swap"]


@dataclass(frozen=True)
class GeneratorInfo:
    """One implementation.

    Attributes:
        family: one of `Family`; the words of the dataset's `method` column.
        location: "module:Class", imported only when it is used.
        licence: of code and weights together, as an SPDX expression or in the words of the publisher.
        weights: names of the published files it needs; empty where it needs none.
        other_weights: names of published files that may be given too, or instead of one of `weights`.
        converter: "module:function" that turns these files into a folder for `from_pretrained`; "" without weights.
        checked: what the implementation was compared with.
        is_fitted: whether it is first fitted to the face crops of the workspace.
        heeds_glasses: whether its results depend on `FaceClip.wears_glasses`.
    """

    family: Family
    location: str
    licence: str
    weights: tuple[str, ...] = ()
    other_weights: tuple[str, ...] = ()
    converter: str = ""
    checked: str = ""
    is_fitted: bool = False
    heeds_glasses: bool = False


# The first generator of a family is its default.
GENERATORS: dict[str, GeneratorInfo] = {
    "weightfree-faces": GeneratorInfo(
        "full_face_generation",
        "generation.generators.weightfree.faces:WeightfreeFaces",
        "Apache-2.0",
        checked="looked at, fitted to synthetic actors and to seven real people; distances by dlib",
        is_fitted=True,
    ),
    "weightfree-drive": GeneratorInfo(
        "expression_driven",
        "generation.generators.weightfree.drive:WeightfreeDrive",
        "Apache-2.0",
        checked="looked at on synthetic actors, a real clip and a photograph",
    ),
    "weightfree-swap": GeneratorInfo(
        "face_swap",
        "generation.generators.weightfree.swap:WeightfreeSwap",
        "Apache-2.0",
        checked="looked at on synthetic actors and a real clip",
        heeds_glasses=True,
    ),
    "weightfree-edit": GeneratorInfo(
        "attribute_editing",
        "generation.generators.weightfree.edit:WeightfreeEdit",
        "Apache-2.0",
        checked="looked at on synthetic actors, filmed people and photographs",
    ),
    "simswap": GeneratorInfo(
        "face_swap",
        "generation.generators.simswap.pipeline:SimSwap",
        "CC-BY-NC-4.0 (network: CC-BY-NC-SA-4.0; identity and parsing networks: their publishers' terms)",
        weights=("latest_net_G.pth", "arcface_checkpoint.tar"),
        other_weights=("550000_net_G.pth", "79999_iter.pth"),
        converter="generation.generators.simswap.convert:convert_published",
        checked="stored vectors of the published implementation, random weights; published weights never seen",
    ),
    "simswap-trained": GeneratorInfo(
        "face_swap",
        "generation.generators.simswap.pipeline:SimSwap",
        "CC-BY-NC-4.0 (network: CC-BY-NC-SA-4.0; identity and parsing networks: their publishers' terms)",
        weights=("latest_net_G.pth", "arcface_checkpoint.tar"),
        other_weights=("79999_iter.pth",),
        converter="generation.generators.simswap.convert:convert_trained",
        checked="names and shapes of the published trainer's networks; its colours as described, never seen",
    ),
    "mcnet": GeneratorInfo(
        "expression_driven",
        "generation.generators.mcnet.pipeline:McnetDrive",
        "weights: no licence given, ask their authors before use in a release; code: Apache-2.0",
        weights=("00000099-checkpoint.pth.tar",),
        converter="generation.generators.mcnet.convert:convert_mcnet",
        checked="stored vectors of the published implementation, random weights; published weights never seen",
    ),
    "stylegan3": GeneratorInfo(
        "full_face_generation",
        "generation.generators.stylegan3.pipeline:Stylegan3Faces",
        "weights: NVIDIA Source Code License for StyleGAN3, non-commercial; code: Apache-2.0",
        weights=("stylegan3-t-ffhq-1024x1024.pkl",),
        converter="generation.generators.stylegan3.convert:convert_stylegan3",
        checked="stored vectors of the published implementation, random weights; published weights never seen",
    ),
    "text2stylegan": GeneratorInfo(
        "full_face_generation",
        "generation.generators.stylegan3.text_pipeline:Text2Stylegan",
        "weights: NVIDIA Source Code License for StyleGAN3, non-commercial; CLIP: MIT; code: Apache-2.0",
        weights=("stylegan3-t-ffhq-1024x1024.pkl", "pytorch_model.bin", "config.json", "vocab.json", "merges.txt"),
        converter="generation.generators.stylegan3.convert:convert_text2stylegan",
        checked="stored steps of the published loop with a stand-in for CLIP; published weights never seen",
    ),
    "styleganex": GeneratorInfo(
        "attribute_editing",
        "generation.generators.styleganex.pipeline:StyleganexEdit",
        "weights: S-Lab License 1.0, non-commercial; code: Apache-2.0",
        weights=("styleganex_edit_age.pt",),
        other_weights=("styleganex_edit_hair.pt",),
        converter="generation.generators.styleganex.convert:convert_styleganex",
        checked="stored vectors of the published implementation, random weights; published weights never seen",
    ),
}
# Generators named "scheme:FOLDER_OR_FILE" -> the module whose `load` makes them and whose `describe` describes them.
SCHEMES: dict[str, str] = {
    "diffusers": "generation.generators.diffusers.loading",
    "onnx": "generation.generators.onnx.loading",
}

# Names by which `model_index.json` knows the modules of networks -> where the modules are. The names are data: saved
# folders and their digests hold them, so a name stays when its module moves.
NETWORK_MODULES: dict[str, str] = {
    "generation.models.face_parsing": "generation.generators.simswap.parsing",
    "generation.models.face_space": "generation.generators.weightfree.portrait.space",
    "generation.models.mcnet": "generation.generators.mcnet.network",
    "generation.models.mcnet_keypoints": "generation.generators.mcnet.keypoints",
    "generation.models.simswap": "generation.generators.simswap.network",
    "generation.models.simswap_identity": "generation.generators.simswap.identity_encoder",
    "generation.models.stylegan3": "generation.generators.stylegan3.network",
    "generation.models.styleganex": "generation.generators.styleganex.network",
}


@dataclass(frozen=True)
class LoadOptions:
    """How a generator is loaded.

    Attributes:
        weights: folder of converted weights, or a repository at the Hub; None takes `weights_folder`.
        device: "auto" takes a GPU where there is one; else torch's name for it.
        dtype: "auto" takes float32 on a CPU and the pipeline's own choice on a GPU; else torch's name for it.
        batch_frames: frames at a time; 0 leaves the pipeline's own number.
    """

    weights: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    batch_frames: int = 0


def generators_of(family: str) -> list[str]:
    """Names of a family's generators, the default first.

    Raises:
        GenerationError: there is no such family.
    """
    if family not in get_args(Family):
        raise GenerationError(f"{family}: no such family; use one of {', '.join(get_args(Family))}")
    return [name for name, info in GENERATORS.items() if info.family == family]


def weights_folder(name: str) -> Path:
    """Where converted weights of a generator are expected: weights/NAME below the working folder."""
    return Path("weights") / name


def imported(location: str) -> Any:
    """The object at "module:name"."""
    module, _, attribute = location.partition(":")
    return getattr(importlib.import_module(module), attribute)
