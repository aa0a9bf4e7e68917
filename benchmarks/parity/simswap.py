"""SimSwap beside the test vectors of the published implementation: see `benchmarks.parity`.

Files are found by their names, networks by the key lists beside them. Activations are compared with those of the plain
network; images with those of the plain network and of the fast formulation, the one that the pipeline runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn

from benchmarks.filled_weights import filled_state
from benchmarks.parity.compared import Compared, compared
from generation.crops.align import choose_templates, similarity
from generation.crops.templates import TEMPLATE_GROUPS, TEMPLATES
from generation.generators.simswap import published_paste as simswap_paste
from generation.generators.simswap.convert import generator_config
from generation.generators.simswap.fused import FusedSwapGenerator
from generation.generators.simswap.identity_encoder import SwapIdentity, shrink_for_identity
from generation.generators.simswap.network import SwapGenerator, normalise
from generation.generators.simswap.parsing import FaceParsing

Arrays = dict[str, Any]
TOLERANCE, LATENT_TOLERANCE, MATRIX_TOLERANCE = 1e-4, 1e-5, 1e-5
# Of pictures that were warped by another version of OpenCV: mean difference and share of pixels far from it.
MEAN_TOLERANCE, SHARE_BEYOND, LARGE_LEVELS = 0.3 / 255, 0.01, 2
LABELS_BEYOND = 0.01  # share of labels that near ties may turn
MODES = {"None": "poses", "ffhq": "ffhq"}


def compare(folder: Path) -> Iterator[Compared]:
    """Every vector of a folder in the published format."""
    path = folder / "index.json"
    index = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    for path in sorted(folder.glob("keys_*.json")):
        yield _compared_keys(path)
    for path in sorted(folder.glob("alignment*.json")):
        yield from _compare_alignment(path)
    kinds = {"generator": _compare_generator, "identity": _compare_identity, "parsing": _compare_parsing}
    for path in sorted(folder.glob("*.safetensors")):
        kind = path.stem.partition("_")[0]
        vectors = load_file(path)
        with torch.inference_mode():
            if kind == "paste":
                yield from _compare_paste(path.stem, vectors)
            elif kind in kinds:
                yield from kinds[kind](path, vectors, index.get(path.stem, {}))
            else:
                yield Compared(f"{path.stem}: unknown kind of vectors", float("inf"), TOLERANCE)


def _compared_keys(path: Path) -> Compared:
    """Number of names, shapes and dtypes that are in a key list or in the network, but not in both."""
    expected = {(name, tuple(shape), dtype) for name, shape, dtype in json.loads(path.read_text("utf-8"))}
    network = _network(path.stem.removeprefix("keys_"), {name: shape for name, shape, _ in expected})
    own = {(n, tuple(t.shape), str(t.dtype).removeprefix("torch.")) for n, t in network.state_dict().items()}
    return Compared(f"{path.stem}: names, shapes and dtypes that differ", float(len(expected ^ own)), 0.0)


def _network(name: str, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    with torch.device("meta"):
        if name.startswith("identity"):
            return SwapIdentity()
        if name.startswith("parsing"):
            return FaceParsing()
        head = "imagenet" if "trainer" in name else "tanh01"
        return SwapGenerator(**generator_config(shapes), head=head)


def _filled(name: str, folder: Path, seed: int) -> Any:
    """A network with the folder's weights of a seed."""
    keys = {n: tuple(s) for n, s, _ in json.loads((folder / f"keys_{name}.json").read_text("utf-8"))}
    network = _network(name, keys).to_empty(device="cpu")
    for tensor in network.state_dict().values():
        tensor.zero_()
    state = filled_state(network.state_dict(), folder, seed, net=name.partition("_")[0])
    network.load_state_dict(state)
    return network.eval()


def _seed_of(stem: str) -> int:
    found = re.search(r"seed(\d+)", stem)
    return int(found[1]) if found else 0


def _activations(network: nn.Module, names: list[str]) -> Arrays:
    """A dict that is filled with the outputs of these modules while the network runs."""
    found: Arrays = {}

    def keep(name: str) -> Any:
        return lambda _module, _inputs, output: found.__setitem__(name, output.detach())

    for name in names:
        network.get_submodule(name).register_forward_hook(keep(name))
    return found


def _compare_activations(stem: str, found: Arrays, vectors: Arrays, strides: Any) -> Iterator[Compared]:
    for name, output in found.items():
        expected = vectors[f"act.{name}"]
        channel, spatial = strides.get(name) or _strides(output, expected)
        got = output[:, ::channel, ::spatial, ::spatial]
        # Deep activations are large; the error is divided by their size.
        size = max(1.0, float(np.abs(expected).max()))
        yield compared(f"{stem}: act.{name} / {size:.3g}", got / size, expected / np.float32(size), TOLERANCE)


def _strides(output: Tensor, expected: Any) -> tuple[int, int]:
    return -(-output.shape[1] // expected.shape[1]), -(-output.shape[2] // expected.shape[2])


def _images(pictures: Any) -> Tensor:
    """RGB uint8 (H, W, 3) or (N, H, W, 3) -> RGB float32 [0, 1] (N, 3, H, W)."""
    batch = torch.from_numpy(np.ascontiguousarray(pictures))
    batch = batch[None] if batch.ndim == 3 else batch
    return batch.permute(0, 3, 1, 2).float() / 255


def _compare_generator(path: Path, vectors: Arrays, index: Any) -> Iterator[Compared]:
    stem = path.stem
    network = _filled(re.sub(r"_?seed\d+", "", stem), path.parent, _seed_of(stem))
    names = [key.removeprefix("act.") for key in vectors if key.startswith("act.")]
    found = _activations(network, names)
    images, latent = _images(vectors["target_rgb_u8"]), torch.from_numpy(vectors["latent"])
    if network.config.head == "imagenet":
        images = normalise(images)
    plain = network(images, latent)
    yield from _compare_activations(stem, found, vectors, index.get("act_strides", {}))
    fused = FusedSwapGenerator(network, is_tiled=True)
    fast = torch.cat([fused(one[None], fused.styles(two[None])) for one, two in zip(images, latent, strict=True)])
    for output, how in ((plain, ""), (fast, ", fast")):
        for key in sorted(vectors):
            if not key.startswith("out"):
                continue
            yield compared(f"{stem}: {key}{how}", _part(key, output, vectors[key], index), vectors[key], TOLERANCE)


def _part(key: str, output: Tensor, expected: Any, index: Any) -> Tensor:
    """The pixels of an output that a vector contains."""
    height, width = expected.shape[2:]
    if key == "out_grid":
        step = index.get("grid_stride") or -(-output.shape[2] // height)
        return output[..., ::step, ::step]
    corners = {"out_topleft": (0, 0), "out_topright": (0, 1), "out_bottomleft": (1, 0), "out_bottomright": (1, 1)}
    if key in corners:
        bottom, right = corners[key]
        rows = slice(-height, None) if bottom else slice(height)
        return output[:, :, rows, slice(-width, None) if right else slice(width)]
    return output


def _compare_identity(path: Path, vectors: Arrays, index: Any) -> Iterator[Compared]:
    stem = path.stem
    network = _filled("identity", path.parent, _seed_of(stem))
    names = [key.removeprefix("act.") for key in vectors if key.startswith("act.")]
    found = _activations(network, names)
    raw = network(normalise(_images(vectors["face_rgb_u8"])))
    yield from _compare_activations(stem, dict(found), vectors, index.get("act_strides", {}))
    yield compared(f"{stem}: embedding_raw", raw, vectors["embedding_raw"], TOLERANCE)
    yield compared(f"{stem}: latent_unit", _unit(raw), vectors["latent_unit"], LATENT_TOLERANCE)
    for key in sorted(vectors):
        name, dot, part = key.partition(".")
        if not (dot and part.startswith("small") and name.startswith("crop")):
            continue
        small = vectors[key]
        times = int(name.removeprefix("crop")) // len(small)
        crop = normalise(_images(small.repeat(times, 0).repeat(times, 1)))
        little = shrink_for_identity(crop, network.config.side_px)
        expected = vectors[f"{name}.down112"]
        step = -(-little.shape[2] // expected.shape[2])
        yield compared(f"{stem}: {name}.down112", little[..., ::step, ::step], expected, LATENT_TOLERANCE)
        latent = _unit(network(little))
        yield compared(f"{stem}: {name}.latent_unit", latent, vectors[f"{name}.latent_unit"], LATENT_TOLERANCE)


def _unit(embedding: Tensor) -> Tensor:
    return nn.functional.normalize(embedding, dim=1)


def _compare_parsing(path: Path, vectors: Arrays, _: Any) -> Iterator[Compared]:
    for key in sorted(key for key in vectors if key.endswith("_rgb_u8")):
        prefix = key.rpartition(".")[0]
        network = _filled("parsing", path.parent, _seed_of(prefix or path.stem))
        picture = vectors[key]
        if len(picture) < 512:
            picture = picture.repeat(512 // len(picture), 0).repeat(512 // picture.shape[1], 1)
        logits = network(normalise(_images(picture)))
        start = f"{prefix}." if prefix else ""
        expected, labels = vectors[f"{start}logits"], vectors[f"{start}labels"]
        step = -(-logits.shape[2] // expected.shape[2])
        yield compared(f"{path.stem}: {start}logits", logits[..., ::step, ::step], expected, TOLERANCE)
        step = -(-logits.shape[2] // labels.shape[-1])
        share = float((logits.argmax(1)[:, ::step, ::step].numpy() != labels.reshape(1, *labels.shape[-2:])).mean())
        yield Compared(f"{path.stem}: {start}labels, share that differs", share, LABELS_BEYOND)


def _compare_alignment(path: Path) -> Iterator[Compared]:
    for number, case in enumerate(json.loads(path.read_text("utf-8"))):
        landmarks = np.array(case["landmarks"], np.float32)
        for name, expected in case["out"].items():
            mode, _, side = name.partition("_")
            index, matrix = _aligned(landmarks, mode, int(side))
            label = f"{path.stem} {number}: {name}"
            yield _compared_matrix(f"{label} matrix", matrix, expected["matrix"], int(side))
            yield Compared(f"{label} template", float(abs(index - expected["template_index"])), 0.0)


def _aligned(landmarks: Any, mode: str, side: int) -> tuple[int, Any]:
    """Number of the template, and the map from frame to crop."""
    (chosen,) = choose_templates(landmarks[None], MODES[mode])
    names = TEMPLATE_GROUPS.get(MODES[mode], (chosen,))
    return names.index(chosen), similarity(landmarks, TEMPLATES[chosen] * side)


def _compared_matrix(name: str, got: Any, expected: Any, side: int) -> Compared:
    """Compares two matrices; shifts are divided by the crop's side."""
    scale = np.array([1.0, 1.0, 1 / side])
    return compared(f"{name} (shift / side)", got * scale, np.array(expected) * scale, MATRIX_TOLERANCE)


def _compare_paste(stem: str, vectors: Arrays) -> Iterator[Compared]:
    for key in sorted(key for key in vectors if key.endswith(".frame_bgr_u8")):
        yield from _compare_pasted(stem, key.partition(".")[0], vectors)
    if "soft_erosion.in_u8" in vectors:
        # uint8 {0, 1} -> float32
        given = vectors["soft_erosion.in_u8"].astype(np.float32)
        kernel = simswap_paste.erosion_kernel()
        yield compared(f"{stem}: soft_erosion.kernel", kernel, vectors["soft_erosion.kernel"], LATENT_TOLERANCE)
        eroded = simswap_paste.soft_erosion(given)
        yield compared(f"{stem}: soft_erosion.out", eroded, vectors["soft_erosion.out"], TOLERANCE)


def _compare_pasted(stem: str, case: str, vectors: Arrays) -> Iterator[Compared]:
    part = {key.removeprefix(f"{case}."): value for key, value in vectors.items() if key.startswith(f"{case}.")}
    side = int(re.sub(r"\D", "", case))
    mode = "ffhq" if side == 512 else "None"
    _, matrix = _aligned(part["landmarks"], mode, side)
    yield _compared_matrix(f"{stem}: {case}.matrix", matrix, part["matrix"], side)
    frame = np.ascontiguousarray(part["frame_bgr_u8"][..., ::-1])
    matrix = part["matrix"]
    crop = simswap_paste.cut(frame, matrix, side)
    yield from _levels(f"{stem}: {case}.aligned", crop[::4, ::4, ::-1], part["aligned_bgr_u8_stride4"])
    swap = cv2.resize(part["swap_small64_rgb_u8"], (side, side), interpolation=cv2.INTER_NEAREST)
    # RGB uint8 -> RGB float32 [0, 1]
    swap = swap.astype(np.float32) / 255
    plain = simswap_paste.paste_back(frame, swap, np.ones((side, side), np.float32), matrix)
    yield from _levels(f"{stem}: {case}.result_box", plain.frame[..., ::-1], part["result_box_bgr_u8"])
    labels = part["labels64_u8"].repeat(8, 0).repeat(8, 1)
    mask = simswap_paste.face_mask(labels, side)
    masked = simswap_paste.paste_back(frame, swap, mask, matrix)
    yield from _levels(f"{stem}: {case}.result_mask", masked.frame[..., ::-1], part["result_mask_bgr_u8"])


def _levels(name: str, got: Any, expected: Any) -> Iterator[Compared]:
    if got.shape != expected.shape:
        yield Compared(f"{name}: shape", float("inf"), MEAN_TOLERANCE)
        return
    difference = np.abs(got.astype(int) - expected.astype(int))
    yield Compared(f"{name}: mean difference / 255", float(difference.mean()) / 255, MEAN_TOLERANCE)
    share = float((difference.max(2) > LARGE_LEVELS).mean())
    yield Compared(f"{name}: share of pixels beyond {LARGE_LEVELS} levels", share, SHARE_BEYOND)
