"""Repeatable weights for a network without its published checkpoint, so that two implementations can be compared.

A tensor's values depend only on its name, its shape and a seed. `fill_overrides.json` in a folder of test vectors then
scales and shifts some of them, so that activations vary; it comes in three forms, distinguished by the keys of a rule.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Values = NDArray[np.float32]
# Tensors that an architecture fixes keep the values it gives them.
KEPT_SUFFIXES = (
    *("num_batches_tracked", "up_filter", "down_filter", "resample_filter"),
    *("kernel", "magnitude_ema", "transform", "freqs", "phases"),
)


def values(name: str, shape: tuple[int, ...], seed: int) -> Values:
    """Values of a tensor: normal noise scaled by fan-in, small biases, positive variances; float32 of that shape."""
    random = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    noise = np.asarray(random.standard_normal(shape, dtype=np.float32))
    last = name.rpartition(".")[2]
    if last == "running_var":
        return np.asarray(1.0 + 0.1 * np.abs(noise), np.float32)
    if last in ("running_mean", "bias"):
        return np.asarray(0.1 * noise, np.float32)
    if noise.ndim >= 2:
        return np.asarray(noise / np.sqrt(fan_in(shape)), np.float32)
    return np.asarray(1.0 + 0.1 * noise if last == "weight" else 0.1 * noise, np.float32)


def fan_in(shape: tuple[int, ...]) -> int:
    """Product of all sizes but the first; 1 for a vector or a number."""
    return max(1, math.prod(shape[1:]))


def filled_state(state: Mapping[str, Tensor], folder: Path, seed: int, *, net: str = "") -> dict[str, Tensor]:
    """The state dict of a network with repeatable values instead of its own.

    Args:
        state: of the network, for names, shapes and what is kept.
        folder: of test vectors; its fill_overrides.json is applied if there is one.
        seed: of the values.
        net: which of the folder's networks, if it has several.
    """
    path = folder / "fill_overrides.json"
    rules = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept = (*KEPT_SUFFIXES, *rules.get("extra_keep", ()), *rules.get("keep_suffixes", ()))
    named = {rule["name"]: rule for rule in rules.get(net, ())}
    matched = [rule for rule in rules.get("rules", ()) if rule.get("net") in (None, net)]
    # If the rules of a folder say what to keep, the list above does not apply.
    own_keeps = any("keep" in rule for rule in matched)
    filled: dict[str, Tensor] = {}
    for name, tensor in state.items():
        rule: dict[str, Any] = named.get(name) or next(
            (r for r in matched if re.fullmatch(r.get("match", ""), name)), {}
        )
        is_kept = rule.get("keep", False) if own_keeps else name.endswith(kept)
        if is_kept or not tensor.is_floating_point():
            filled[name] = tensor.detach().clone()
            continue
        moved = _moved(values(name, tuple(tensor.shape), seed), rule)
        filled[name] = torch.from_numpy(moved.reshape(tuple(tensor.shape)))
    return filled


def extra_values(folder: Path, seed: int) -> dict[str, Tensor]:
    """Tensors by name that a folder's test vectors need in addition to the state dict."""
    rules = json.loads((folder / "fill_overrides.json").read_text("utf-8"))
    found = {}
    for extra in rules.get("extra", ()):
        shape = tuple(extra["shape"])
        found[extra["name"]] = torch.from_numpy(values(extra["name"], shape, seed) * _factor(extra["mul"], shape))
    return found


def _moved(drawn: Values, rule: Mapping[str, Any]) -> Values:
    if "scale" in rule or "offset" in rule:
        scale = np.float32(rule.get("scale", 1.0) * fan_in(drawn.shape) ** rule.get("fan_in_power", 0.0))
        return np.asarray(np.float32(rule.get("offset", 0.0)) + scale * drawn, np.float32)
    add = np.asarray(rule.get("add", 0.0), np.float32)
    if add.ndim:
        add = np.tile(add, drawn.size // add.size).reshape(drawn.shape)
    return np.asarray(drawn * _factor(rule.get("mul", 1.0), drawn.shape) + add, np.float32)


def _factor(mul: float | str, shape: tuple[int, ...]) -> np.float32:
    """A number, or "sqrt_fan_in" with or without "*NUMBER"."""
    if isinstance(mul, str):
        _, _, more = mul.partition("*")
        return np.float32(math.sqrt(fan_in(shape)) * (float(more) if more else 1.0))
    return np.float32(mul)
