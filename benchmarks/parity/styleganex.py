"""StyleGANEX beside the test vectors of the published implementation: see `benchmarks.parity`.

index.json lists the cases; a key list and the case give the network's configuration. Each case runs once, in the
formulation that the pipeline uses on this machine. All vectors of its name are compared, including activations, and the
statistics of its whole picture.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from benchmarks.filled_weights import extra_values, filled_state
from benchmarks.parity.compared import Compared, compared
from generation.generators.styleganex.alignment import FacePoints, align_face, eye_crop
from generation.generators.styleganex.convert import network_config
from generation.generators.styleganex.frames import FrameNetwork
from generation.generators.styleganex.network import StyleganexEditor

Arrays = dict[str, Any]
TOLERANCE, LEVELS_TOLERANCE, QUAD_TOLERANCE, SCALE_TOLERANCE = 1e-4, 1.0, 1e-6, 1e-9
SHARE_TOLERANCE = 1e-4  # of values beyond [-1, 1]
# Extremes of the whole picture, and a picture resampled by another version of the library.
EXTREME_TOLERANCE, MEAN_LEVELS_TOLERANCE = 2e-4, 0.3
PATCH_PX = 96


def compare(folder: Path) -> Iterator[Compared]:
    """Every vector of a folder in the published format."""
    index = json.loads((folder / "index.json").read_text("utf-8")) if (folder / "index.json").is_file() else {}
    for path in sorted(folder.glob("keys*.json")):
        yield _compared_keys(path)
    for path in sorted(folder.glob("*align*.json")):
        yield from compare_alignment(path)
    vectors: Arrays = {}
    for path in sorted(folder.glob("*.safetensors")):
        if "align" not in path.stem and not path.stem.startswith("inputs"):
            vectors |= load_file(path)
    inputs = load_file(folder / "inputs.safetensors") if (folder / "inputs.safetensors").is_file() else {}
    cases: dict[str, Any] = index.get("cases", {})
    names = sorted(cases, key=len, reverse=True)
    by_case: dict[str, Arrays] = {name: {} for name in cases}
    for key, value in vectors.items():
        name = next((name for name in names if key.startswith(f"{name}.")), None)
        if name is None:
            yield Compared(f"{key}: of no case of index.json", float("inf"), TOLERANCE)
        else:
            by_case[name][key.removeprefix(f"{name}.")] = value
    # Only one network at a time is in memory: 1.4 GB.
    for name in sorted(cases, key=lambda name: int(cases[name]["seed"])):
        with torch.inference_mode():
            yield from _compare_case(folder, cases[name] | {"name": name}, inputs, by_case[name])
    _filled.cache_clear()


def _keys_file(folder: Path, *, has_rgb: bool) -> Path:
    expected = folder / "keys_torgb.json"
    return expected if has_rgb and expected.is_file() else folder / "keys.json"


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    listed = json.loads(path.read_text("utf-8"))["state_dict"]
    return {name: tuple(entry["shape"]) for name, entry in listed.items()}


def _compared_keys(path: Path) -> Compared:
    """Number of names, shapes and dtypes that are in a key list or in the network, but not in both."""
    listed = json.loads(path.read_text("utf-8"))
    expected = {(name, tuple(one["shape"]), one["dtype"]) for name, one in listed["state_dict"].items()}
    config = network_config(_shapes(path), listed.get("config", {}), str(path))
    with torch.device("meta"):
        network = StyleganexEditor(**config)
    own = {(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in network.state_dict().items()}
    own = {one for one in own if one[0] not in ("latent_avg", "editing_w")}
    return Compared(f"{path.stem}: names, shapes and dtypes that differ", float(len(expected ^ own)), 0.0)


@lru_cache(maxsize=1)
def _filled(folder: Path, seed: int, has_rgb: bool, use_skip: bool) -> StyleganexEditor:
    """The network with the folder's weights of a seed."""
    path = folder / "keys.json"
    options = json.loads(path.read_text("utf-8")).get("config", {}) if path.is_file() else {}
    config = network_config(_shapes(path), options, str(path)) if path.is_file() else {}
    network: StyleganexEditor = StyleganexEditor(**{**config, "use_skip_torgb": has_rgb, "use_skip": use_skip})
    state = {name: value for name, value in network.state_dict().items() if "." in name}
    filled = filled_state(state, folder, seed)
    extra = extra_values(folder, seed)
    filled["latent_avg"] = extra["latent_avg"].expand_as(network.latent_avg)
    filled["editing_w"] = extra["editing_w"].reshape(-1, *network.editing_w.shape)[0]
    network.load_state_dict(filled)
    network.eval()
    return network


_codes: dict[tuple[int, int], Tensor] = {}


def _codes_of(network: StyleganexEditor, seed: int, image: Tensor) -> Tensor:
    key = seed, zlib.crc32(image.numpy().tobytes())
    if key not in _codes:
        _codes[key] = network.codes(image)
    return _codes[key]


def _image(inputs: Arrays, name: str) -> Tensor:
    """uint8 (3, H, W) -> float32 [-1, 1] (1, 3, H, W)."""
    return ((torch.from_numpy(inputs[name]).float() / 255 - 0.5) / 0.5)[None]


def _compare_case(folder: Path, case: Mapping[str, Any], inputs: Arrays, vectors: Arrays) -> Iterator[Compared]:
    name, seed, scale = case["name"], int(case["seed"]), case.get("scale")
    network = _filled(folder, seed, bool(case.get("torgb", False)), bool(case.get("use_skip", True)))
    x1 = _image(inputs, case.get("x1", "x1_A"))
    x2_name = case.get("x2", "x2")
    codes = _codes_of(network, seed, x1 if x2_name in (None, "none") else _image(inputs, x2_name))
    latents = codes[0] + network.latent_avg if network.config.start_from_latent_avg else codes[0]
    frame_network = network.frame_network(latents, scale, is_tiled=True)
    found = _activations(frame_network, x1)
    picture: Tensor = found.pop("y")
    known = {"codes_x2": codes[0], "latent_plus_edit": latents + network.editing_w * (scale or 0.0)}
    if "codes_x1" in vectors:
        known["codes_x1"] = _codes_of(network, seed, x1)[0]
    if "enc.f_rgb" in vectors:
        found["enc.f_rgb"] = network.encoder.skiplayer(found["enc.features"])
    yield from _compare_statistics(name, picture[0], case)
    for key, expected in sorted(vectors.items()):
        if key in known:
            yield compared(f"{name}: {key}", known[key], expected, TOLERANCE)
        elif key.startswith(("grid", "crop")):
            yield _compared_part(name, key, picture[0], expected)
        else:
            yield _compared_activation(name, key, found, expected, case.get("sub_strides", {}))


def _compare_statistics(name: str, picture: Tensor, case: Mapping[str, Any]) -> Iterator[Compared]:
    values = picture.double()
    found: dict[str, tuple[Any, float]] = {
        "shape": (np.array((1, *picture.shape)), 0.0),
        "mean": (values.mean((1, 2)), TOLERANCE),
        "std": (values.std((1, 2)), TOLERANCE),
        "min": (values.min(), EXTREME_TOLERANCE),
        "max": (values.max(), EXTREME_TOLERANCE),
        "clamped_fraction": ((values.abs() > 1).double().mean(), SHARE_TOLERANCE),
    }
    for key, (got, tolerance) in found.items():
        if key in case:
            yield compared(f"{name}: {key} of the whole picture", got, np.array(case[key]), tolerance)


def _compared_part(name: str, key: str, picture: Tensor, expected: Any) -> Compared:
    """A grid of every n-th pixel, or a patch."""
    label = f"{name}: {key}"
    grid = re.fullmatch(r"grid(\d+)", key)
    if grid:
        step = int(grid[1])
        return compared(label, picture[:, ::step, ::step], expected, TOLERANCE)
    found = re.fullmatch(r"crop(\d+)_(tl|mid|br)\.(f16|f32|u8)", key)
    if found is None:
        return Compared(f"{label}: unknown kind of vector", float("inf"), TOLERANCE)
    side, place, kind = int(found[1]), found[2], found[3]
    height, width = picture.shape[1:]
    starts = {
        "tl": (0, 0),
        "mid": (height // 2 - side // 2, width // 2 - side // 2),
        "br": (height - side, width - side),
    }
    top, left = starts[place]
    patch = picture[:, top : top + side, left : left + side]
    if kind == "u8":
        levels = ((patch.clamp(-1, 1) + 1) * 127.5).to(torch.uint8)
        return compared(label, levels, expected, LEVELS_TOLERANCE)
    if kind == "f16":
        # Stored in a coarser format: half a step of it is not a difference.
        step = np.spacing(np.abs(expected)).astype(np.float64) / 2
        error = np.maximum(np.abs(patch.double().numpy() - expected.astype(np.float64)) - step, 0)
        return compared(f"{label}, beyond its rounding", error, np.zeros_like(error), TOLERANCE)
    return compared(label, patch, expected, TOLERANCE)


def _activations(network: FrameNetwork, x1: Tensor) -> dict[str, Tensor]:
    """The picture "y" and what the layers give, by the names of the vectors."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    def keep_mask(name: str) -> Any:
        def hook(mask: Any, inputs: Any, output: Tensor) -> None:
            h, x = inputs
            difference = (h - x).abs()
            scale, shift = mask.scale_and_shift(h, difference)
            both = torch.cat([h, difference], 1)
            found[f"{name}.adain"] = torch.addcmul(shift[..., None, None], both, scale[..., None, None])
            found[f"{name}.mask"], found[f"{name}.label"] = output, mask.label

        return hook

    def keep_taps(_module: Any, _inputs: Any, output: Any) -> None:
        feature, taps = output
        found.update({f"enc.{name}": value for name, value in taps.items()}, **{"enc.f": feature})
        found["enc.input_layer(x1)"] = taps["c256"]
        found["enc.features"] = torch.cat([taps["c21"], taps["c22"], taps["c2"]], 1)

    network.encoder.register_forward_hook(keep_taps)
    for name in ("conv1", "to_rgb1"):
        network.get_submodule(name).register_forward_hook(keep(f"dec.{name}"))
    for part in ("convs", "to_rgbs"):
        for number, module in enumerate(network.get_submodule(part).children()):
            module.register_forward_hook(keep(f"dec.{part}.{number}"))
    for number, fusion in enumerate(network.fusions.children()):
        fusion.register_forward_hook(keep(f"fusion{number}.out"))
        if isinstance(fusion.mask, torch.nn.Module):
            fusion.mask.register_forward_hook(keep_mask(f"fusion{number}"))
    found["y"] = network(x1)
    return found


def _compared_activation(name: str, key: str, found: dict[str, Tensor], expected: Any, strides: Any) -> Compared:
    layer = key.removesuffix(".chan_mean_std")
    if layer not in found:
        return Compared(f"{name}: {key}: no such layer", float("inf"), TOLERANCE)
    output = found[layer]
    if key != layer:
        values = output[0].double()
        got = torch.stack([values.mean((1, 2)), values.std((1, 2))])
        return _relative(name, key, got, expected)
    if output.ndim < 4:
        return _relative(name, key, output, expected)
    output = output[0]
    channel, row, column = strides.get(layer) or (-(-a // b) for a, b in zip(output.shape, expected.shape, strict=True))
    return _relative(name, key, output[::channel, ::row, ::column], expected)


def _relative(name: str, key: str, got: Tensor, expected: Any) -> Compared:
    """Features may be large; the error is divided by their size."""
    size = max(1.0, float(np.abs(expected).max()))
    return compared(f"{name}: {key} / {size:.3g}", got / size, expected / np.float32(size), TOLERANCE)


def compare_alignment(path: Path) -> Iterator[Compared]:
    """The rules of crop and alignment beside the stored cases."""
    pixels = path.with_suffix(".safetensors")
    vectors = load_file(pixels) if pixels.is_file() else {}
    for case in json.loads(path.read_text("utf-8")):
        name = f"{path.stem}: {case['name']}"
        size, points = case["image"], np.array(case["landmarks"], np.float64)
        # the 68 points of the iBUG annotation
        face = FacePoints(points[36:42].mean(0), points[42:48].mean(0), points[48], points[54])
        crop = eye_crop(face, size["H"], size["W"])
        expected = case["crop"]
        got = [crop.height_px, crop.width_px, crop.top, crop.bottom, crop.left, crop.right]
        listed = [expected[key] for key in ("h", "w", "top", "bottom", "left", "right")]
        yield compared(f"{name}: crop", np.array(got), np.array(listed), 0.0)
        yield compared(f"{name}: scale", np.array(crop.scale), np.array(expected["scale"]), SCALE_TOLERANCE)
        tag = re.search(r"tag=(\d+)", size.get("recipe", ""))
        image = synthetic_image(int(tag[1]) if tag else 5, size["H"], size["W"], size["seed"])
        aligned = align_face(image, face)
        expected = case["align"]
        yield compared(
            f"{name}: quad", aligned.quad.ravel() + 0.5, np.array(expected["quad_plus_half"]), QUAD_TOLERANCE
        )
        sides = np.array(expected["size_before_transform"])
        yield compared(f"{name}: size before the warp", np.array(aligned.size_before), sides, 0.0)
        values = aligned.image.reshape(-1, 3).astype(np.float64)
        for key, got_values in (("mean", values.mean(0)), ("std", values.std(0))):
            yield compared(f"{name}: {key}", got_values, np.array(expected[key]), MEAN_LEVELS_TOLERANCE)
        for key in (key for key in vectors if key.startswith(f"{case['name']}.")):
            step = -(-len(aligned.image) // len(vectors[key]))
            picture = aligned.image[::step, ::step]
            yield compared(f"{name}: {key.rpartition('.')[2]}", picture, vectors[key], LEVELS_TOLERANCE)


def synthetic_image(tag: int, height: int, width: int, seed: int) -> Any:
    """The stored cases' pictures: random colours stretched from a grid of 9 by 9, with noise; uint8 (H, W, 3)."""
    random = np.random.Generator(np.random.PCG64([seed, tag, height, width]))
    base = random.uniform(-1.0, 1.0, (3, 9, 9))
    noise = random.standard_normal((3, height, width))
    full = _stretched(_stretched(base, height, 1), width, 2) + 0.08 * noise
    return np.ascontiguousarray(np.clip(np.rint((full + 1.0) * 127.5), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def _stretched(array: Any, size: int, axis: int) -> Any:
    places = np.linspace(0.0, 8.0, size)
    low = np.minimum(places.astype(np.int64), 7)
    share = (places - low).reshape([size if number == axis else 1 for number in range(3)])
    return np.take(array, low, axis) * (1 - share) + np.take(array, low + 1, axis) * share
