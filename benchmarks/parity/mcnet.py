"""The published MCNET beside the project's: keypoints, motion, memory, pictures, and what is done around the network.

A folder holds keys_*.json, fill_overrides.json, and for each set of vectors NAME.safetensors with NAME.json beside
it, which says by which seed the weights are filled. Names of vectors say what they are:

    kp.*, kp_norm.VARIANT.*, source.*         keypoints; VARIANT is rel_adapt, rel_noadapt or absolute
    VARIANT.noise0.frameN.*, VARIANT.noise.*  one frame; _sK is every Kth row and column from 0, _nnn a call's size

The vectors are compared with the network folded for inference, the one that the pipeline runs; statistics of layers
that folding replaces with the network as it is stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.filled_weights import filled_state
from benchmarks.parity.compared import Compared, compared
from generation.generators.mcnet.dense_motion import Motion
from generation.generators.mcnet.keypoints import Keypoints, McnetDetector, movement_scale, relative_keypoints
from generation.generators.mcnet.memory import ATTENTION_SCALE, MemoryUnit, Recalled
from generation.generators.mcnet.network import McnetGenerator, Still, warped
from generation.generators.mcnet.pictures import crops_to_input
from generation.weights.state import load_strict

KEYPOINTS, PICTURES, HALF_PICTURES, OCCLUSION, INNER = 1e-5, 2e-4, 6e-4, 2e-5, 2e-4
FRAME = re.compile(r"(?P<variant>\w+)\.(?P<noise>noise0|noise)\.frame(?P<number>\d+)\.(?P<what>\w+)")
Case = tuple[str, bool, int]


@torch.no_grad()
def compare(folder: Path) -> Iterator[Compared]:
    """Every vector of a folder, and the names and shapes of the published weights."""
    yield from _compare_keys(folder)
    for path in sorted(folder.glob("*.safetensors")):
        description = path.with_suffix(".json")
        if description.is_file():
            yield from _Set(folder, path.stem, load_file(path), json.loads(description.read_text("utf-8"))).compare()
        else:
            yield from _compare_frames(path.stem, load_file(path))


def _compare_keys(folder: Path) -> Iterator[Compared]:
    models = {"generator": McnetGenerator, "kp_detector": McnetDetector}
    for path in sorted(folder.glob("keys_*.json")):
        published = json.loads(path.read_text("utf-8"))["entries"]
        own = {
            name: (tuple(value.shape), str(value.dtype)) for name, value in models[path.stem[5:]]().state_dict().items()
        }
        expected = {one["name"]: (tuple(one["shape"]), f"torch.{one['dtype']}") for one in published}
        differing = {name for name in own.keys() | expected.keys() if own.get(name) != expected.get(name)}
        yield Compared(f"{path.stem}: names, shapes and dtypes that differ", len(differing), 0)


def _compare_frames(stem: str, vectors: dict[str, Tensor]) -> Iterator[Compared]:
    """Examples of resizing: NAME.in_u8 or NAME.in with NAME.out."""
    for name, expected in sorted(vectors.items()):
        case, _, kind = name.rpartition(".")
        if kind != "out":
            continue
        given = vectors.get(f"{case}.in_u8", vectors.get(f"{case}.in"))
        if given is None:
            yield Compared(f"{stem}: {name}: no input", float("inf"), 0)
        elif expected.dtype != torch.uint8:  # the rounding of the demo's writer is not used here
            got = _resized(given.numpy(), expected.shape[:2])
            yield compared(f"{stem}: {name}", got, expected, 1e-6)


def _resized(picture: Any, size: tuple[int, ...]) -> Any:
    if size[0] != size[1]:
        raise ValueError(f"resized to {size}; the network's pictures are square")
    return crops_to_input(picture[None], size[0])[0]


@dataclass(frozen=True)
class _Frame:
    """One frame made by the network, with what it was made of."""

    motion: Motion
    prediction: Tensor
    unit_inputs: list[tuple[Tensor, Tensor, Tensor | None]]
    unit_outputs: list[Tensor]
    ups: list[Tensor]


@dataclass
class _Set:
    """One set of vectors: weights of a seed, a source picture and driving frames."""

    folder: Path
    stem: str
    vectors: dict[str, Tensor]
    description: dict[str, Any]

    def __post_init__(self) -> None:
        self.frames: dict[Case, _Frame] = {}

    def _filled(self, model: Any, net: str) -> Any:
        state = filled_state(model.state_dict(), self.folder, int(self.description["weight_seed"]), net=net)
        load_strict(model, state, file=net)
        return model

    @cached_property
    def stored(self) -> McnetGenerator:
        model: McnetGenerator = self._filled(McnetGenerator(), "generator")
        return model

    @cached_property
    def folded(self) -> McnetGenerator:
        return self.stored.folded(is_tiled=True)

    @cached_property
    def detector(self) -> McnetDetector:
        model: McnetDetector = self._filled(McnetDetector(), "kp_detector")
        return model

    @cached_property
    def source(self) -> Tensor:
        return _as_input(self.vectors["input.source_u8"])

    @cached_property
    def source_keypoints(self) -> Keypoints:
        found: Keypoints = self.detector(self.source)
        return found

    @cached_property
    def driving(self) -> Keypoints:
        return Keypoints.joined([self.detector(_as_input(one)) for one in self.vectors["input.driving_u8"]])

    @cached_property
    def still(self) -> Still:
        return self.folded.encode(self.source, self.source_keypoints)

    @cached_property
    def scale(self) -> float:
        return movement_scale(self.source_keypoints, self.driving[0:1])

    def normalised(self, variant: str) -> Keypoints:
        if variant == "absolute":
            return self.driving
        scale = {"rel_adapt": self.scale, "rel_noadapt": 1.0}[variant]
        return relative_keypoints(self.driving, self.driving[0:1], self.source_keypoints, scale)

    def compare(self) -> Iterator[Compared]:
        """All vectors, then the numbers of the description."""
        for name, expected in sorted(self.vectors.items()):
            if name.startswith("input."):
                continue
            yield compared(f"{self.stem}: {name}", self._own(name), expected, _tolerance(name, expected))
        yield compared(f"{self.stem}: movement_scale", self.scale, self.description["movement_scale"], 1e-5)
        yield from self._compare_stats()
        yield from self._compare_layers()

    def _own(self, name: str) -> Tensor:
        """What the project's network gives for a vector.

        Raises:
            KeyError: the name says nothing that is known.
        """
        if found := FRAME.fullmatch(name):
            case = (found["variant"], found["noise"] == "noise", int(found["number"]))
            return self._of_frame(self.frame(case), found["what"])
        first, _, rest = name.partition(".")
        if first == "kp_norm":
            variant, _, part = rest.partition(".")
            return torch.as_tensor(getattr(self.normalised(variant), part))
        if name.startswith("kp.driving."):
            return torch.as_tensor(getattr(self.driving, rest.rpartition(".")[2]))
        return self._of_source(name)

    def _of_source(self, name: str) -> Tensor:
        small = self.detector.down(self.source)
        if name == "source.down64":
            return torch.as_tensor(small[..., ::2, ::2])
        hourglass = self.detector.predictor(small)
        known = {
            "kp.source.value": self.source_keypoints.value,
            "kp.source.jacobian": self.source_keypoints.jacobian,
            "kp.source.hourglass": hourglass[..., ::4, ::4],
            "kp.source.heat_logits": self.detector.kp(hourglass)[..., ::2, ::2],
        }
        return torch.as_tensor(known[name])

    def frame(self, case: Case) -> _Frame:
        if case not in self.frames:
            self.frames[case] = self._make(*case)
        return self.frames[case]

    def _make(self, variant: str, has_noise: bool, number: int) -> _Frame:
        driving = self.normalised(variant)[number : number + 1]
        noise = self.vectors["input.noise"][number].transpose(0, 1) if has_noise else None
        inputs: list[tuple[Tensor, Tensor, Tensor | None]] = []
        outputs: list[Tensor] = []
        ups: list[Tensor] = []

        def after_unit(_: nn.Module, given: Any, made: Tensor) -> None:
            inputs.append(given)
            outputs.append(made)

        model = self.folded
        hooks = [model.mbUnit.register_forward_hook(after_unit)]
        hooks += [block.register_forward_hook(lambda _, __, made: ups.append(made)) for block in model.up_blocks]
        motion = model.dense_motion_network(self.still.small, self.still.keypoints, driving)
        prediction = model.render(self.still, motion, noise)
        for hook in hooks:
            hook.remove()
        return _Frame(motion, prediction, inputs, outputs, ups)

    def _of_frame(self, frame: _Frame, what: str) -> Tensor:
        name, _, after = what.rpartition("_")
        if name.startswith("mb_"):
            return self._of_memory(frame, name, int(after))
        if name == "up":
            made = frame.ups[int(after)][:, ::8]
            step = made.shape[-1] // 16
            return made[..., ::step, ::step]
        whole = {
            "deformation": lambda: frame.motion.deformation,
            "occlusion_map": lambda: frame.motion.occlusion,
            "prediction": lambda: frame.prediction,
            "prediction_full_f16": lambda: frame.prediction,
            "mask": lambda: frame.motion.mask,
            "sparse_deformed": lambda: frame.motion.deformed,
            "deformed": lambda: warped(self.still.image, frame.motion),
            "kv_mix": lambda: torch.cat([self.recalled(frame, call).mix for call in range(len(frame.unit_inputs))]),
            "style_code": lambda: torch.cat(
                [self.recalled(frame, call).style for call in range(len(frame.unit_inputs))]
            ),
        }
        if what in whole:
            return whole[what]()
        step = int(after.removeprefix("s"))
        return whole[name]()[..., ::step, ::step]

    def recalled(self, frame: _Frame, call: int) -> Recalled:
        x, points, noise = frame.unit_inputs[call]
        unit = self.folded.mbUnit
        return unit.recall(unit.mean_of(_asking(x), x.shape[-1]), points, noise)

    def _of_memory(self, frame: _Frame, name: str, side: int) -> Tensor:
        call = [len(x[0, 0]) for x, _, _ in frame.unit_inputs].index(side)
        if name == "mb_after":
            step = side // 16
            return frame.unit_outputs[call][:, ::7, ::step, ::step]
        recalled = self.recalled(frame, call)
        if name == "mb_memory":
            return recalled.memory[:, ::16, ::2, ::2]
        residual = _residual(self.folded.mbUnit, frame.unit_inputs[call][0], recalled)
        step = side // 16
        return {"mb_residual": residual}[name][:, ::16, ::step, ::step]

    def _compare_stats(self) -> Iterator[Compared]:
        """Mean and standard deviation of each colour of whole predictions."""
        for name, stats in self.description.get("stats", {}).items():
            prediction = self._own(name)
            for kind, got in (("mean", prediction.mean((0, 2, 3))), ("std", prediction.std((0, 2, 3), correction=0))):
                yield compared(f"{self.stem}: {name} {kind}", got, np.asarray(stats[kind]), 2e-5)

    def _compare_layers(self) -> Iterator[Compared]:
        """Mean, standard deviation, least and largest value of every layer on frame 1."""
        stages = self.description.get("intermediate_frame1", {})
        if not stages:
            return
        found = self._layers()
        for name, calls in stages.items():
            values = found.get(name, [])
            if len(values) != len(calls):
                yield Compared(f"{self.stem}: layer {name}: {len(values)} calls", float("inf"), 0)
                continue
            for number, (value, call) in enumerate(zip(values, calls, strict=True)):
                label = f"{self.stem}: layer {name} call {number}"
                if list(value.shape) != call["shape"]:
                    yield Compared(f"{label}: shape {tuple(value.shape)}", float("inf"), 0)
                    continue
                got = [float(value.mean()), float(value.std(correction=0)), float(value.min()), float(value.max())]
                yield compared(label, got, call["mean_std_min_max"], INNER)

    def _layers(self) -> dict[str, list[Tensor]]:
        """Outputs of the layers by their published names, of the network as it is stored."""
        found: dict[str, list[Tensor]] = {}
        model, hooks = self.stored, []
        watched: dict[str, nn.Module] = {
            "first": model.first,
            "dense.down": model.dense_motion_network.down,
            "dense.hourglass": model.dense_motion_network.hourglass,
            "style_route": model.mbUnit.style_route,
            "styleconv.activate": model.mbUnit.styleconv,
            "conv_kv.attention": model.mbUnit.conv_kv.attention,
            "conv_kv": model.mbUnit.conv_kv,
            "mbUnit": model.mbUnit,
            "final": model.final,
            "kp.down": self.detector.down,
            "kp.hourglass": self.detector.predictor,
            "kp.kp": self.detector.kp,
            "kp.jacobian": self.detector.jacobian,
        }
        for group in ("down_blocks", "resblock", "up_blocks"):
            watched |= {f"{group}.{number}": block for number, block in enumerate(getattr(model, group))}
        for name, module in watched.items():

            def keep(_: nn.Module, __: Any, made: Tensor, name: str = name) -> None:
                found.setdefault(name, []).append(made.clone())

            hooks.append(module.register_forward_hook(keep))
        inputs: list[Any] = []
        hooks.append(model.mbUnit.register_forward_hook(lambda _, given, __: inputs.append(given)))
        self.detector(self.source)
        model(model.encode(self.source, self.source_keypoints), self.normalised("rel_adapt")[1:2])
        for hook in hooks:
            hook.remove()
        found["styleconv.modulated_conv"] = [
            _before_activation(model.mbUnit, one) for one in found["styleconv.activate"]
        ]
        for given, after in zip(inputs, found["mbUnit"], strict=True):
            for name, value in _inside_unit(model.mbUnit, *given).items():
                found[f"visual_{name}_{after.shape[-1]}"] = [value]
            found[f"visual_after_{after.shape[-1]}"] = [after]
        return found


def _before_activation(unit: MemoryUnit, memory: Tensor) -> Tensor:
    """The style convolution's result, back through scale, leaky ReLU and bias, without noise."""
    y = memory / 2**0.5
    return torch.where(y < 0, y / 0.2, y) - unit.styleconv.activate.bias[:, None, None]  # type: ignore[index]


def _inside_unit(unit: MemoryUnit, x: Tensor, points: Tensor, noise: Tensor | None) -> dict[str, Tensor]:
    side, memory_px = x.shape[-1], unit.mb.shape[-1]
    f, query, _ = unit.projections(_asking(x), side)
    recalled = unit.recall(unit.mean_of(_asking(x), side), points, noise)
    return {
        "before": x,
        "feat": _as_map(f, side),
        "value": _as_map(recalled.value, memory_px),
        "key": _as_map(recalled.key, memory_px),
        "query": _as_map(F.relu(query), side),
        "memory": recalled.memory,
        "residual": _residual(unit, x, recalled),
    }


def _residual(unit: MemoryUnit, x: Tensor, recalled: Recalled) -> Tensor:
    """What attention takes out of the memory, before the difference's convolution: (B, C, n, n)."""
    side = x.shape[-1]
    query = F.relu(unit.projections(_asking(x), side)[1])
    share = torch.softmax(query @ recalled.key.transpose(1, 2) * ATTENTION_SCALE, -1)
    return _as_map(share @ recalled.value, side)


def _asking(x: Tensor) -> Tensor:
    return x[:, 1::2].flatten(2).transpose(1, 2)


def _as_map(places: Tensor, side: int) -> Tensor:
    return places.transpose(1, 2).reshape(len(places), -1, side, side)


def _as_input(picture: Tensor) -> Tensor:
    # HWC uint8 [0, 255] -> 1CHW float32 [0, 1]
    return (picture.float() / 255).permute(2, 0, 1)[None].contiguous()


def _tolerance(name: str, expected: Tensor) -> float:
    what = name.rpartition(".")[2]
    if what in ("value", "jacobian", "deformation") or what.startswith(("mask", "source.down")):
        return KEYPOINTS
    if expected.dtype == torch.float16:
        return HALF_PICTURES
    return OCCLUSION if what == "occlusion_map" else PICTURES
