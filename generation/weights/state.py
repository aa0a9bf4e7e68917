"""State dicts: from the value of a reader into a network, with no name left over or missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch

from generation.errors import WeightsError
from generation.weights.mapped import printable
from generation.weights.pickle_stream import Bag, kind_of

MAX_MODULES = 20_000
MAX_TENSORS = 200_000
NUM_SHOWN = 3


def state_dict(value: Any, *, file: str) -> dict[str, torch.Tensor]:
    """The tensors by name of a saved state dict, or of a saved module.

    Args:
        value: a dict of tensors, or the `Bag` of a module, whose parameters, buffers and submodules are walked.
        file: the file, for error lines.

    Raises:
        WeightsError: it is neither, or contains other values than tensors.
    """
    state: dict[str, torch.Tensor] = {}
    pairs = module_tensors(value, file) if type(value) is Bag else value.items() if isinstance(value, dict) else None
    if pairs is None:
        raise WeightsError(f"{file}: {kind_of(value)} where a state dict is expected; use another file")
    for name, tensor in pairs:
        if type(name) is not str or not isinstance(tensor, torch.Tensor):
            raise WeightsError(f"{file}: {_shown(name)} is {kind_of(tensor)}, not a tensor; use another file")
        state[name] = tensor
        if len(state) > MAX_TENSORS:
            raise WeightsError(f"{file}: more than {MAX_TENSORS:,} tensors; do not use this file")
    return state


def module_tensors(bag: Bag, file: str) -> Iterator[tuple[str, Any]]:
    """Name and value of every parameter and buffer of a module, as its `state_dict()` would name them.

    Raises:
        WeightsError: it is not a module.
    """
    todo = [("", bag)]
    for _ in range(MAX_MODULES):
        if not todo:
            return
        prefix, module = todo.pop()
        tensors, below = _parts(module, file)
        yield from ((f"{prefix}{name}", value) for name, value in tensors.items() if value is not None)
        todo += [(f"{prefix}{name}.", one) for name, one in reversed(below.items())]
    raise WeightsError(f"{file}: more than {MAX_MODULES:,} modules, or one inside itself; do not use this file")


def _parts(module: Bag, file: str) -> tuple[dict[str, Any], dict[str, Bag]]:
    """Parameters and buffers of a module itself, and the modules below it."""
    parts = [module.state.get(name) for name in ("_parameters", "_buffers", "_modules")]
    skipped = module.state.get("_non_persistent_buffers_set", set())
    if not all(type(part) is dict and all(type(name) is str for name in part) for part in parts):
        raise WeightsError(f"{file}: {kind_of(module)} is not a module of torch; use another file")
    if type(skipped) is not set:
        raise WeightsError(f"{file}: {kind_of(module)} is not a module of torch; use another file")
    parameters, buffers, modules = (part or {} for part in parts)
    below = {name: one for name, one in modules.items() if one is not None}
    for name, one in below.items():
        if type(one) is not Bag:
            raise WeightsError(f"{file}: {_shown(name)} is {kind_of(one)}, not a module; use another file")
    return {**parameters, **{name: value for name, value in buffers.items() if name not in skipped}}, below


def _shown(name: Any) -> str:
    return printable(name) if type(name) is str else kind_of(name)


def strip_prefix(state: Mapping[str, torch.Tensor], prefix: str = "module.") -> dict[str, torch.Tensor]:
    """The tensors without a prefix that every name has; DataParallel puts "module." before all of them."""
    if not all(name.startswith(prefix) for name in state):
        return dict(state)
    return {name.removeprefix(prefix): value for name, value in state.items()}


def under(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with "PREFIX.", without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


def load_strict(
    model: torch.nn.Module,
    state: Mapping[str, torch.Tensor],
    *,
    file: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> None:
    """Copies a state dict into a network, whose names and shapes must be the same, and sets it to evaluation.

    Args:
        model: initialized; a tensor that may be missing keeps its values.
        state: floats may be of another precision.
        file: the file, for the error line.
        allow_missing, allow_unexpected: names, or patterns with "*", that may be missing, or are left out.

    Raises:
        WeightsError: one line with the first names that are missing, unknown, of another shape or kind, or not finite.
    """
    expected = model.state_dict()
    state = {name: value for name, value in state.items() if name in expected or not _matches(name, allow_unexpected)}
    differences = list(_differences(expected, state, allow_missing))
    if differences:
        more = f" (and {len(differences) - NUM_SHOWN} more)" if len(differences) > NUM_SHOWN else ""
        raise WeightsError(
            f"{file}: does not fit {type(model).__name__}: {'; '.join(differences[:NUM_SHOWN])}{more}; "
            "use the file that this network was published with"
        )
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(f"{file}: {printable(name)} has values that are not finite; fetch the file again")
    model.load_state_dict(state, strict=False)
    model.eval()


def _differences(
    expected: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], allow_missing: Sequence[str]
) -> Iterator[str]:
    for name, own in expected.items():
        given = state.get(name)
        if given is None:
            if not _matches(name, allow_missing):
                yield f"{name} is missing"
        elif given.shape != own.shape:
            yield f"{name} is {_shape(given)}, expected {_shape(own)}"
        elif given.is_floating_point() != own.is_floating_point():
            yield f"{name} is {given.dtype}, expected {own.dtype}"
    for name in state:
        if name not in expected:
            yield f"{printable(name)} is unknown"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
