"""What to make and with what: the request, the chosen generator in a worker, seeds, and the second attempt."""

from __future__ import annotations

import dataclasses
import hashlib
import multiprocessing
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from generation.errors import RejectedOutputError
from generation.generators.registry import GENERATORS, SCHEMES, Family, LoadOptions, weights_folder
from tooling.errors import UsageError
from tooling.stages.generate.described import may_have_gpu, remembered, states_of
from tooling.work.engine import LOCAL, Engine, run_side_by_side
from tooling.workspace.layout import Workspace

Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class GenerateRequest:
    """What to make, and with what.

    Attributes:
        generator: name of a generator of the subset's family, or "scheme:location"; None takes the family's default.
        only: names below the subset, such as "1_2", "age/7" or "000012"; None takes all that are planned.
        limit: how many at most, in natural order; None means all.
        seed: each fake's own seed is derived from it.
        factor: strength of an edit.
        options: weights, device, dtype and batch size.
        engine: where fakes are made.
    """

    generator: str | None = None
    only: Sequence[str] | None = None
    limit: int | None = None
    seed: int = 0
    factor: float = 2.0
    options: LoadOptions = dataclasses.field(default_factory=LoadOptions)
    engine: Engine = LOCAL


@dataclasses.dataclass(frozen=True)
class GeneratorChoice:
    """A generator by name, the family that it is used for, and how it is loaded."""

    name: str
    family: Family
    options: LoadOptions

    @property
    def recorded_name(self) -> str:
        """The name for the record; of a local file or folder without its path."""
        scheme, _, location = self.name.partition(":")
        is_local = scheme in SCHEMES and bool(location) and Path(location).exists()
        return f"{scheme}:{Path(location).resolve().name}" if is_local else self.name

    @property
    def heeds_glasses(self) -> bool:
        """Whether its results depend on who is stated to wear glasses."""
        return self.name in GENERATORS and GENERATORS[self.name].heeds_glasses

    @property
    def files(self) -> tuple[Path, ...]:
        """The file or folder of this machine that it is loaded from; none where it needs none, or a repository."""
        _, _, location = self.name.partition(":")
        if self.name in GENERATORS:
            default = str(weights_folder(self.name)) if GENERATORS[self.name].weights else ""
            location = self.options.weights or default
        return (Path(location),) if location and Path(location).exists() else ()

    def parameters(self) -> dict[str, Any]:
        """Settings, dtype and digest of the weights, as JSON values for the record."""
        from generation.generators.loading import describe_generator  # imports torch and diffusers

        return describe_generator(self.name, self.options, family=self.family)

    @property
    def is_local(self) -> bool:
        """Whether its parameters follow from code and files of this machine."""
        needs_weights = self.name not in GENERATORS or bool(GENERATORS[self.name].weights or self.options.weights)
        return bool(self.files) if needs_weights else True


def on_engine(choice: GeneratorChoice, engine: Engine) -> tuple[GeneratorChoice, Engine]:
    """What a generator is loaded with and what each of its workers is given, on a cluster whose GPUs Ray assigns.

    Raises:
        UsageError: one GPU of a machine is named.
    """
    device = choice.options.device
    if not engine.is_ray:
        return choice, engine
    if ":" in device:
        raise UsageError(f"{device}: Ray chooses the GPU of each worker; use --device cuda")
    options = dataclasses.replace(choice.options, device="cpu" if device == "auto" else device)
    engine = dataclasses.replace(engine, uses_gpu=device == "cuda", needed=choice.files)
    return dataclasses.replace(choice, options=options), engine


def parameters_of(workspace: Workspace, choices: Sequence[GeneratorChoice], engine: Engine) -> list[dict[str, Any]]:
    """The parameters of each; where workers are given a GPU, a worker finds them: this machine may have none.

    Args:
        workspace: held by the caller's lock; keeps what was found.
        choices: the generators.
        engine: with what they will run.

    Raises:
        GenerationError: see `describe_generator`.
        ToolingError: see `run_side_by_side`.
    """
    if not engine.uses_gpu:
        return [_known_parameters(workspace, choice) for choice in choices]
    found = list(run_side_by_side(GeneratorChoice.parameters, choices, num_workers=1, engine=engine))
    for outcome in found:
        if outcome.error is not None:
            raise outcome.error
    return [outcome.value for outcome in found]


def _known_parameters(workspace: Workspace, choice: GeneratorChoice) -> dict[str, Any]:
    if not choice.is_local or (choice.options.device != "cpu" and may_have_gpu()):
        return choice.parameters()
    about = ["parameters", choice.name, choice.family, dataclasses.asdict(choice.options), states_of(choice.files)]
    found: dict[str, Any] = remembered(workspace, about, choice.parameters)
    return found


def sample_seed(seed: int, sample_id: str) -> int:
    """The seed of one fake: 32 bits, the same on every machine and in every order of work."""
    return int.from_bytes(hashlib.sha256(f"{seed} {sample_id}".encode()).digest()[:4], "big")


def num_devices(options: LoadOptions) -> int:
    """Number of worker processes: one per GPU, or 0 on a CPU, which means one per processor."""
    if options.device == "cpu" or (options.device == "auto" and not may_have_gpu()):
        return 0
    import torch

    is_gpu = options.device.startswith("cuda") or (options.device == "auto" and torch.cuda.is_available())
    if not is_gpu:
        return 0
    return 1 if ":" in options.device else torch.cuda.device_count()


def loaded(choice: GeneratorChoice) -> Any:
    """The pipeline, loaded once in each process; several GPUs are divided among the processes."""
    import cv2
    import torch

    options = choice.options
    if options.device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        position = multiprocessing.current_process()._identity
        number = (position[0] - 1 if position else 0) % torch.cuda.device_count()
        options = dataclasses.replace(options, device=f"cuda:{number}")
    if options.device == "cpu" or not torch.cuda.is_available():
        cv2.setNumThreads(1)  # one processor per fake; several are made at a time
    return _load(choice.name, options, choice.family)


@lru_cache(maxsize=2)
def _load(name: str, options: LoadOptions, family: Family) -> Any:
    from generation.generators.loading import load_generator  # imports torch and diffusers

    return load_generator(name, options, family=family)


def tried_twice(make: Callable[[int], Result], seed: int, draws: bool) -> tuple[Result, dict[str, Any]]:
    """Calls `make` with a seed, and again with the next seed if the first result is rejected.

    Args:
        make: gives the result for a seed, or raises RejectedOutputError.
        seed: of the first attempt.
        draws: whether the result depends on the seed; if not, there is no second attempt.

    Returns:
        The result and, for the record, the seed that was used and why the first attempt was rejected.

    Raises:
        RejectedOutputError: both attempts were rejected; `attempts` has their seeds and reasons.
    """
    attempts: list[tuple[int, str]] = []
    for number in range(2 if draws else 1):
        try:
            result = make(seed + number)
        except RejectedOutputError as error:
            attempts.append((seed + number, str(error)))
            continue
        notes: dict[str, Any] = {"seed": seed + number}
        return result, notes | ({"rejected": attempts[0][1]} if attempts else {})
    raise RejectedOutputError(attempts[-1][1], attempts)
