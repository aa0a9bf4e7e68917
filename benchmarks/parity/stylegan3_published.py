"""Comparisons with the published StyleGAN3 files themselves: names of weights, geometry, filters, pickles."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.parity.compared import Compared, compared
from generation.generators.stylegan3.convert import generator_settings, read_generator
from generation.generators.stylegan3.geometry import LayerGeometry
from generation.generators.stylegan3.network import StyleganGenerator, SynthesisLayer
from generation.weights.stylegan_pickle import read_stylegan

IMAGE, EXACT = 5e-5, 0.0
PSI = 0.5  # of the truncated image


def build(arguments: Mapping[str, Any]) -> StyleganGenerator:
    """A generator from the published constructor's arguments."""
    network = StyleganGenerator(**generator_settings(arguments, file="generator_kwargs"))
    return cast(StyleganGenerator, network.eval().requires_grad_(False))


def published_arguments(configuration: str, resolution: int) -> dict[str, Any]:
    """Arguments of the published generators: configuration "t" or "r", of 1024, 512 or 256 pixels."""
    base = 16384 if resolution == 256 else 32768
    more: dict[str, Any] = {"channel_base": base}
    if configuration == "r":
        more = {"channel_base": 2 * base, "channel_max": 1024, "conv_kernel": 1, "use_radial_filters": True}
    sizes = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": resolution, "img_channels": 3}
    return sizes | {"mapping_kwargs": {"num_layers": 2}} | more


def _published(configuration: str, resolution: int) -> StyleganGenerator:
    with torch.device("meta"):  # weights are not needed, and take 100 MB
        return build(published_arguments(configuration, resolution))


def compare_keys(path: Path) -> Compared:
    """Names, shapes and dtypes of a published size's weights."""
    _, configuration, resolution = path.stem.split("_")
    expected = json.loads(path.read_text("utf-8"))
    network = _published(configuration, int(resolution))
    own = {name: [list(one.shape), str(one.dtype).removeprefix("torch.")] for name, one in network.state_dict().items()}
    return Compared(f"{path.stem}: names, shapes, dtypes", 0.0 if own == expected else math.inf, EXACT)


def compare_layers(path: Path) -> Iterator[Compared]:
    """Sizes, rates and frequencies of every layer of a published size."""
    resolution = int(path.stem.rpartition("_")[2])
    for configuration, expected in json.loads(path.read_text("utf-8")).items():
        synthesis = _published(configuration, resolution).synthesis
        band = synthesis.input.band
        own = {"channels": band.channels, "size": band.size, "sampling_rate": band.rate, "bandwidth": band.cutoff}
        yield _compare_numbers(f"{path.stem} {configuration} input", own, expected["input"])
        yield _compare_numbers(f"{path.stem} {configuration}", {"num_ws": synthesis.num_ws}, expected)
        for name, layer in zip(synthesis.layer_names, expected["layers"], strict=True):
            geometry = cast(SynthesisLayer, synthesis.get_submodule(name)).geometry
            yield _compare_numbers(f"{path.stem} {configuration} {name}", _numbers(geometry), layer)


def _numbers(layer: LayerGeometry) -> dict[str, Any]:
    """A layer's geometry under the names of the stored one."""
    low, high = layer.resampling.padding
    before, after = layer.before, layer.after
    return {
        "name": layer.name,
        "is_torgb": layer.is_torgb,
        "critically_sampled": layer.is_critical,
        "fp16_on_cuda": layer.is_half,
        "kernel": layer.kernel,
        "tmp_rate": layer.temporary_rate,
        "in_channels": before.channels,
        "out_channels": after.channels,
        "in_size": before.size,
        "out_size": after.size,
        "in_rate": before.rate,
        "out_rate": after.rate,
        "in_cutoff": before.cutoff,
        "out_cutoff": after.cutoff,
        "in_half_width": before.half_width,
        "out_half_width": after.half_width,
        "up": layer.resampling.up,
        "down": layer.resampling.down,
        "up_taps": layer.up_taps,
        "down_taps": layer.down_taps,
        "down_radial": layer.is_radial and layer.down_taps > 1,
        "padding_left_right_top_bottom": [low, high, low, high],
    }


def _compare_numbers(name: str, own: dict[str, Any], expected: dict[str, Any]) -> Compared:
    """The largest relative difference; infinite if a name is unknown or a string differs."""
    error = 0.0
    for key, value in expected.items():
        if isinstance(value, list | dict) and key in ("input", "layers"):
            continue
        if isinstance(value, float) and key in own:
            error = max(error, abs(own[key] - value) / max(abs(value), 1e-12))
        elif own.get(key) != value:
            error = math.inf
    return Compared(name, error, 1e-12)


def compare_filters(path: Path) -> Iterator[Compared]:
    """Filters of a published size."""
    resolution = int(path.stem.rpartition("_")[2])
    networks: dict[str, dict[str, Tensor]] = {}
    for name, expected in load_file(path).items():
        configuration, _, rest = name.partition(".")
        if configuration not in networks:
            networks[configuration] = _published(configuration, resolution).synthesis.state_dict()
        yield compared(f"{path.stem} {name}", networks[configuration].get(rest, torch.zeros(0)), expected, 1e-7)


def beside(pickle: Path, kind: str) -> Path | None:
    """The file of a kind that belongs to a pickle: NAME_KIND, or that of the longest beginning of its name."""
    parts = pickle.stem.split("_")
    for length in range(len(parts), 0, -1):
        path = pickle.with_name("_".join((*parts[:length], kind)))
        if path.is_file():
            return path
    return None


def compare_pickle(path: Path, beside: Mapping[str, Path | None]) -> Iterator[Compared]:
    """A pickle beside its tensors, its arguments and images of its generator."""
    published, network = read_stylegan(path), read_generator(path).requires_grad_(False)
    weights, init, forward = (beside[kind] for kind in ("expected.safetensors", "init.json", "forward.safetensors"))
    if weights:
        # A pickle whose name differs from that of its vectors is the same network, filled by another NumPy.
        is_own = weights.name == f"{path.stem}_expected.safetensors"
        expected, own = load_file(weights), network.state_dict()
        yield Compared(f"{path.name}: names", 0.0 if set(expected) == set(own) else math.inf, EXACT)
        for name in sorted(set(expected) & set(own)):
            yield compared(
                f"{path.name} {name}", own[name].reshape(-1), expected[name].reshape(-1), EXACT if is_own else 1e-4
            )
    if init:
        is_same = json.loads(init.read_text("utf-8"))["init_kwargs"] == published.init_kwargs
        yield Compared(f"{path.name}: arguments", 0.0 if is_same else math.inf, EXACT)
    if forward:
        stored = load_file(forward)
        with torch.inference_mode():
            for name, psi in (("image", 1.0), ("image_trunc", PSI)):
                if name in stored:
                    image = network(stored["z"], stored.get("c"), psi=psi)
                    yield compared(f"{path.name} {name}", image, stored[name], IMAGE)
