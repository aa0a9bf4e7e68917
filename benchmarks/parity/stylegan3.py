"""StyleGAN3 and text2stylegan beside stored vectors; see `benchmarks.parity`.

A set of vectors is a JSON file with the generator's arguments and a file of tensors for each seed. Beside the sets a
folder may hold the published sizes (names of weights, geometry, filters), pickles, and steps of the search with a
stand-in for CLIP. A file or tensor that is none of these is a failure.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.filled_weights import filled_state, values
from benchmarks.parity.compared import Compared, compared
from benchmarks.parity.stylegan3_published import (
    EXACT,
    IMAGE,
    beside,
    build,
    compare_filters,
    compare_keys,
    compare_layers,
    compare_pickle,
)
from generation.generators.stylegan3.latent_search import (
    SearchSettings,
    clip_view,
    cosine_losses,
    render,
    search,
    start_latents,
)
from generation.generators.stylegan3.network import StyleganGenerator

WS = 1e-5
LOSS, FINAL = 1e-4, 1e-3  # of the search: Adam's first steps take the sign of the smallest gradients
PSI, CUTOFF, ROWS = 0.5, 8, (0, 7, 8)  # of the truncated vectors, where their description says nothing else
PROBE_STRIDE, PROBE_CHANNELS = 8, 4
STANDIN: dict[str, Any] = {"seed": 0, "psi": 0.5, "learning_rate": 0.02, "features": 16, "blocks_px": 32}


@dataclass(frozen=True)
class Truncation:
    """How the truncated vectors were made: psi, cutoff, and which ws are stored (-1 is the last)."""

    psi: float
    cutoff: int
    rows: tuple[int, ...]


def compare(folder: Path) -> Iterator[Compared]:
    """Every vector of a folder."""
    known = {"fill_overrides.json"}
    sets = {path.stem: described for path in sorted(folder.glob("*.json")) if (described := _described_set(path))}
    for name, described in sets.items():
        known.add(f"{name}.json")
        for seed, result in described["results"].items():
            known.add(result["file"])
            yield from _compare_seed(folder, described, int(seed), result)
    for path in sorted(folder.glob("keys_*.json")):
        known.add(path.name)
        yield compare_keys(path)
    for path in sorted(folder.glob("layers_*.json")):
        known.add(path.name)
        yield from compare_layers(path)
    for path in sorted(folder.glob("filters_*.safetensors")):
        known.add(path.name)
        yield from compare_filters(path)
    for path in sorted(folder.glob("*standin*.safetensors")):
        known |= {path.name, path.with_suffix(".json").name}
        yield from _compare_search(path, sets)
    for path in sorted(folder.glob("*.pkl")):
        known.add(path.name)
        related = {kind: beside(path, kind) for kind in ("expected.safetensors", "init.json", "forward.safetensors")}
        known |= {found.name for found in related.values() if found}
        yield from compare_pickle(path, related)
    for path in sorted((*folder.glob("*.json"), *folder.glob("*.safetensors"))):
        if path.name not in known:
            yield Compared(f"{path.name}: unknown file", math.inf, EXACT)


def _described_set(path: Path) -> dict[str, Any] | None:
    described = json.loads(path.read_text("utf-8"))
    return described if isinstance(described, dict) and {"generator_kwargs", "results"} <= set(described) else None


def _filled(folder: Path, arguments: Mapping[str, Any], seed: int) -> StyleganGenerator:
    network = build(arguments)
    network.load_state_dict(filled_state(network.state_dict(), folder, seed))
    return network


def _compare_seed(folder: Path, described: dict[str, Any], seed: int, result: dict[str, Any]) -> Iterator[Compared]:
    place = result["file"].removesuffix(".safetensors")
    stored = load_file(folder / result["file"])
    network = _filled(folder, described["generator_kwargs"], seed)
    transforms = _transforms(stored, described, result)
    tried: list[Tensor | None] = [*transforms] or [None]
    yield _compare_digest(place, network, described, result, transforms)
    attempts = []
    for transform in tried:
        with torch.inference_mode():
            computed = _computed(network, stored, described, transform)
        attempts.append(list(_beside_stored(place, computed, stored)))
    # A stored transform is that of the picture or its inverse; the one that fits better is meant.
    yield from min(attempts, key=lambda attempt: max(one.error for one in attempt))


def _beside_stored(place: str, computed: dict[str, Tensor], stored: dict[str, Tensor]) -> Iterator[Compared]:
    for name, expected in stored.items():
        if name in ("z", "c") or ("transform" in name and expected.shape[-2:] == (3, 3)):
            continue
        if name not in computed:
            yield Compared(f"{place} {name}: unknown tensor", math.inf, EXACT)
            continue
        yield compared(f"{place} {name}", computed[name], expected, WS if name.startswith("ws") else IMAGE)


def _computed(
    network: StyleganGenerator, stored: dict[str, Tensor], described: dict[str, Any], transform: Tensor | None
) -> dict[str, Tensor]:
    """Everything that a set's tensors may hold, by name."""
    # Images of other names than the usual two are the transformed ones; without such, all are.
    usual = {f"image{kind}{part}" for kind in ("", "_trunc") for part in ("", "_mean", "_std")}
    others = {name.removesuffix("_mean").removesuffix("_std") for name in stored if name.startswith("image")} - usual
    common = None if others else transform
    stride = int(described.get("image_stride", 1))
    truncation = _truncation(described)
    label = stored.get("c")
    ws = network.mapping(stored["z"], label)
    truncated = network.mapping(stored["z"], label, psi=truncation.psi, cutoff=truncation.cutoff)
    rows = [row % network.synthesis.num_ws for row in truncation.rows if row < network.synthesis.num_ws]
    found = {"ws": ws[:, 0] if stored.get("ws", ws[:, 0]).ndim == 2 else ws}
    whole = stored.get("ws_trunc", truncated).shape == truncated.shape
    found["ws_trunc"] = truncated if whole else truncated[:, rows]
    images = {"image_trunc": network.synthesis(truncated, transform=common)}
    with _Probes(network) as probes:
        images["image"] = network.synthesis(ws, transform=common)
    found |= probes.found
    for name in others if transform is not None else ():
        images[name] = network.synthesis(truncated if "trunc" in name else ws, transform=transform)
    for name, image in images.items():
        found[name] = image[:, :, ::stride, ::stride]
        found[f"{name}_mean"] = image.mean((2, 3))
        found[f"{name}_std"] = image.std((2, 3), correction=0)
    return found


class _Probes:
    """Takes down what parts of the synthesis give, as long as it is open."""

    def __init__(self, network: StyleganGenerator) -> None:
        self.found: dict[str, Tensor] = {}
        self._hooks = [
            part.register_forward_hook(lambda _, __, output, name=name: self._note(name, output))
            for name, part in network.synthesis.named_children()
        ]

    def _note(self, name: str, output: Tensor) -> None:
        self.found[f"probe.{name}"] = output[0, :PROBE_CHANNELS, ::PROBE_STRIDE, ::PROBE_STRIDE]
        parts = [output.mean(), output.std(correction=0), output.abs().max()]
        self.found[f"probe_stat.{name}"] = torch.stack(parts)

    def __enter__(self) -> _Probes:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _truncation(described: dict[str, Any]) -> Truncation:
    text = str(described.get("calls", {}).get("ws_trunc", ""))
    psi, cutoff = re.search(r"psi\s*=?\s*([\d.]+\d)", text), re.search(r"cutoff\s*=?\s*(\d+)", text)
    listed = re.search(r"ind(?:ex|ices)((?:[\s,]|and|\d+|last)+)", text)
    numbers: list[str] = re.findall(r"\d+|last", listed[1]) if listed else [*map(str, ROWS), "last"]
    rows = tuple(-1 if number == "last" else int(number) for number in numbers)
    return Truncation(float(psi[1]) if psi else PSI, int(cutoff[1]) if cutoff else CUTOFF, rows)


def _transforms(stored: dict[str, Tensor], described: dict[str, Any], result: dict[str, Any]) -> list[Tensor]:
    """What the transform of a set's input may be, as the buffer holds it; empty where there is none.

    It is a tensor of the set or a matrix in its description, or there an angle in degrees and a shift in widths.
    """
    given = [value for name, value in stored.items() if "transform" in name and value.shape == (3, 3)]
    for place in (result, described, described.get("calls", {})):
        for name, value in place.items():
            if "transform" in name and not isinstance(value, str | bool | None):
                given.append(_matrix(value))
    matrices = [matrix.double() for matrix in given[:1]]
    return [one.float() for matrix in matrices for one in (matrix, matrix.inverse())]


def _matrix(value: Any) -> Tensor:
    if isinstance(value, Mapping):
        for name in ("buffer", "matrix", "stored", "inverse", "value"):
            if name in value:
                return _matrix(value[name])
        angle = next(
            (float(value[name]) for name in ("angle", "angle_degrees", "rotate", "degrees") if name in value), 0
        )
        shift = next((value[name] for name in ("translate", "translation", "shift", "t") if name in value), (0, 0))
        cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        rows = [[cosine, sine, float(shift[0])], [-sine, cosine, float(shift[1])], [0, 0, 1]]
        return torch.tensor(rows, dtype=torch.float64).inverse().float()
    return torch.tensor(value, dtype=torch.float64).reshape(3, 3).float()


def _compare_digest(
    place: str,
    network: StyleganGenerator,
    described: dict[str, Any],
    result: dict[str, Any],
    transforms: Sequence[Tensor],
) -> Compared:
    """Whether the weights have the stored digest; a difference is excused if NumPy is another version."""
    state = network.state_dict()
    name = "synthesis.input.transform"
    digests = {_digest(state | {name: transform}) for transform in (state[name], *transforms)}
    is_same = result.get("weights_sha256", next(iter(digests))) in digests
    is_excused = described.get("numpy", np.__version__) != np.__version__
    return Compared(f"{place} weights' digest", 0.0 if is_same or is_excused else math.inf, EXACT)


def _digest(state: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        if not name.endswith(("up_filter", "down_filter")):
            total.update(name.encode() + tensor.numpy().astype("<f4").tobytes())
    return total.hexdigest()


def _compare_search(path: Path, sets: Mapping[str, dict[str, Any]]) -> Iterator[Compared]:
    """The search with block means instead of CLIP's image encoder, and a stored vector as the text."""
    given = path.with_suffix(".json")
    options: dict[str, Any] = STANDIN | (json.loads(given.read_text("utf-8")) if given.is_file() else {})
    stored = load_file(path)
    name = options.get("network") or ("tiny_t_64" if "tiny_t_64" in sets else next(iter(sets)))
    network = _filled(path.parent, sets[name]["generator_kwargs"], int(options["seed"]))
    known = {"z0", "w0"}
    for space in ("w", "z"):
        if f"{space}_losses" in stored:
            own = _searched(network, stored, space, options)
            tolerances = {"losses": LOSS, "grad0": LOSS, "features0": LOSS, "final": FINAL, "final_image": FINAL}
            for key, value in own.items():
                if f"{space}_{key}" in stored:
                    known.add(f"{space}_{key}")
                    tolerance = tolerances.get(key, IMAGE)
                    yield compared(f"{path.stem} {space} {key}", value, stored[f"{space}_{key}"], tolerance)
    if "w0" in stored:
        settings = SearchSettings("w", float(options["psi"]))
        yield compared(f"{path.stem} w0", start_latents(network, stored["z0"], settings), stored["w0"], WS)
    for key in sorted(set(stored) - known):
        yield Compared(f"{path.stem} {key}: unknown tensor", math.inf, EXACT)


def _searched(
    network: StyleganGenerator, stored: dict[str, Tensor], space: Any, options: Mapping[str, Any]
) -> dict[str, Tensor]:
    num_iterations = len(stored[f"{space}_losses"])
    rate, psi = float(options["learning_rate"]), float(options["psi"])
    settings = SearchSettings(space, psi, rate, num_iterations, keep="last")
    seen: dict[str, Tensor] = {}
    block, size = int(options["blocks_px"]), int(options["features"])
    encoder_shape = (size, 3 * (224 // block) ** 2)
    encoder = torch.from_numpy(values("standin.image.weight", encoder_shape, int(options["seed"])))
    text = torch.from_numpy(values("standin.text", (1, size), int(options["seed"])))

    def score(images: Tensor, _: Sequence[int]) -> Tensor:
        view = clip_view(images)
        features = F.avg_pool2d(view, block).flatten(1) @ encoder.T
        seen.setdefault("clip_input_strided", view.detach()[:, :, ::8, ::8])
        seen.setdefault("features0", features.detach())
        return cosine_losses(features, text)

    start = start_latents(network, stored["z0"], settings)
    first = start.clone().requires_grad_()
    (seen["grad0"],) = torch.autograd.grad(score(render(network, first, settings), [0]).sum(), first)
    found = search(network, start, score, settings)
    with torch.inference_mode():
        image = render(network, found.latents, settings)
    stride = image.shape[-1] // stored[f"{space}_final_image"].shape[-1]
    ends = {"losses": torch.tensor(found.losses[0]), "final": found.latents}
    return {**seen, **ends, "final_image": image[:, :, ::stride, ::stride]}
