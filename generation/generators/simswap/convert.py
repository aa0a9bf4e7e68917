"""The published files of SimSwap: swapping network, identity encoder and, optionally, the parsing network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from generation.errors import WeightsError
from generation.generators.simswap.identity_encoder import SwapIdentity
from generation.generators.simswap.network import Head, SwapGenerator
from generation.generators.simswap.parsing import FaceParsing
from generation.generators.simswap.pipeline import SimSwap
from generation.weights.pickle_stream import Bag
from generation.weights.state import load_strict, state_dict, strip_prefix
from generation.weights.torch_file import LAYERS, read_torch

# The identity encoder is published as a pickle of the whole module; an earlier upload has it beside objects of its
# training, whose classes are named here so that they can be passed over.
CLASSES = (
    *(f"models{part}.{name}" for part in ("", ".arcface_models") for name in ("ResNet", "IRBlock", "SEBlock")),
    *("models.ArcMarginModel", "models.arcface_models.ArcMarginModel", "focal_loss.FocalLoss"),
    *("torch.optim.sgd.SGD", "torch.optim.adam.Adam", "optimizer.InsightFaceOptimizer"),
)
IDENTITY_KEY, PARSING_KEY, NETWORK_KEY = "layer1.0.se.fc.0.weight", "cp.resnet.conv1.weight", "first_layer.1.weight"
LARGE_PX, SMALL_PX = 512, 224


def convert_published(files: Sequence[Path]) -> SimSwap:
    """A published swapping network (224 or 512 px) with its identity encoder, in any order; parsing network optional.

    Raises:
        WeightsError: one of the files is none of these, twice the same kind, or does not fit its network.
    """
    return _convert(files, "tanh01")


def convert_trained(files: Sequence[Path]) -> SimSwap:
    """As `convert_published`, for a swapping network of the published trainer: other colours, the same weights' names.

    Raises:
        WeightsError: see `convert_published`.
    """
    return _convert(files, "imagenet")


def _convert(files: Sequence[Path], head: Head) -> SimSwap:
    found: dict[str, tuple[Path, dict[str, Tensor]]] = {}
    for path in files:
        state = _read(path)
        kind = _kind(path, state)
        if kind in found:
            raise WeightsError(f"{path}: is a {kind}, and so is {found[kind][0].name}; name one of each kind")
        found[kind] = path, state
    for kind in ("swapping network", "identity encoder"):
        if kind not in found:
            raise WeightsError(f"{', '.join(map(str, files))}: no {kind} among them; name its file too")
    path, state = found["swapping network"]
    config = generator_config({name: tuple(value.shape) for name, value in state.items()})
    try:
        network = SwapGenerator(**config, head=head)
    except (IndexError, ValueError) as error:
        raise WeightsError(f"{path}: is not a swapping network of SimSwap; use the published file") from error
    load_strict(network, state, file=str(path))
    identity = SwapIdentity()
    _load(identity, found["identity encoder"])
    parsing = None
    if "parsing network" in found:
        parsing = FaceParsing()
        _load(parsing, found["parsing network"])
    is_large = len(config["channels"]) > 4
    template, side = ("ffhq", LARGE_PX) if is_large else ("poses", SMALL_PX)
    return SimSwap(network, identity, parsing, crop_px=side, template=template)


def _load(model: Any, found: tuple[Path, dict[str, Tensor]]) -> None:
    path, state = found
    load_strict(model, state, file=str(path))


def _read(path: Path) -> dict[str, Tensor]:
    value = read_torch(path, bags=(*CLASSES, *LAYERS))
    if type(value) is dict and type(value.get("model")) is Bag:
        value = value["model"]
    return strip_prefix(state_dict(value, file=str(path)))


def _kind(path: Path, state: Mapping[str, Tensor]) -> str:
    keys = {NETWORK_KEY: "swapping network", IDENTITY_KEY: "identity encoder", PARSING_KEY: "parsing network"}
    for key, kind in keys.items():
        if key in state:
            return kind
    raise WeightsError(
        f"{path}: is neither swapping network, identity encoder nor parsing network; use latest_net_G.pth or "
        "550000_net_G.pth, arcface_checkpoint.tar and 79999_iter.pth"
    )


def generator_config(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The configuration of `SwapGenerator` that its weights' names and shapes stand for; the head is not among them."""
    levels = sorted(_numbers(shapes, "down"))
    widths = [shapes[NETWORK_KEY][0], *(shapes[f"down{level}.0.weight"][0] for level in levels)]
    latents = [shape[1] for name, shape in shapes.items() if name.endswith("style1.linear.weight")]
    return {
        "channels": widths,
        "first_level": levels[0] if levels else 1,
        "num_blocks": len(latents),
        "latent_size": latents[0] if latents else 512,
    }


def _numbers(shapes: Mapping[str, Sequence[int]], prefix: str) -> Iterator[int]:
    for name, shape in shapes.items():
        first, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and rest == "0.weight" and first.isdigit() and len(shape) == 4:
            yield int(first)
