"""Detectors by name: checkpoints of transformers, and functions in files.

A detector takes frames, RGB uint8 (T, 3, H, W), and gives T scores; higher means fake.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.predictions import PredictionError
from generation.errors import one_line

KINDS = "transformers:FOLDER_OR_REPO or python:FILE.py:FUNCTION"
BATCH = 32  # frames at once
FAKE_WORDS = re.compile(r"fake|synth|generat|artificial|manipulat|spoof|forge|swap|\bai\b", re.I)
REAL_WORDS = re.compile(r"real|human|authentic|genuine|pristine|original|natural|bona", re.I)


@dataclass(frozen=True)
class Detector:
    """A loaded detector.

    Attributes:
        name: as it was asked for.
        digest: hexadecimal; changes with its files.
        note: what was decided about it, for a person; "" if nothing was.
        function: frames -> scores, see the module.
    """

    name: str
    digest: str
    note: str
    function: Callable[[NDArray[np.uint8]], Any]

    def score(self, frames: NDArray[np.uint8], sample_id: str) -> NDArray[np.float64]:
        """Scores of frames, RGB uint8 (T, 3, H, W): float64 (T,), finite.

        Raises:
            PredictionError: the detector fails on them, or returns something else.
        """
        try:
            scores = np.asarray(self.function(frames), np.float64)
        except Exception as error:  # whatever strangers' code raises
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise PredictionError(f"{self.name}: fails on {sample_id} ({reason}); correct it") from error
        if scores.shape != (len(frames),) or not np.isfinite(scores).all():
            got = f"{scores.shape} scores" if scores.shape != (len(frames),) else "a score that is not finite"
            raise PredictionError(f"{self.name}: gives {got} for {len(frames)} frames of {sample_id}; correct it")
        return scores


def load_detector(name: str, *, fake_label: str = "", device: str = "") -> Detector:
    """Loads a detector.

    Args:
        name: `transformers:FOLDER_OR_REPO`, any checkpoint for image classification with weights in safetensors, whose
            score is the probability of the label that means fake; or `python:FILE.py:FUNCTION`, which is run.
        fake_label: of a checkpoint; guessed from the names of its labels if empty.
        device: of a checkpoint, as torch names it; a GPU if there is one and it is empty.

    Raises:
        PredictionError: there is no such detector, it cannot be loaded, or no label is known to mean fake.
    """
    kind, _, place = name.partition(":")
    if kind == "transformers" and place:
        return _load_transformers(name, place, fake_label, device)
    file, _, function = place.rpartition(":")
    if kind == "python" and file and function:
        return _load_function(name, Path(file), function)
    raise PredictionError(f"{name}: not a detector; use {KINDS}")


def _load_function(name: str, path: Path, function: str) -> Detector:
    if not path.is_file():
        raise PredictionError(f"{path}: not found; name the file of the detector's function")
    spec = importlib.util.spec_from_file_location("detector_of_a_user", path)
    if spec is None or spec.loader is None:
        raise PredictionError(f"{path}: is not a Python file; name one")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever strangers' code raises
        raise PredictionError(f"{path}: fails ({type(error).__name__}: {one_line(error)}); correct it") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise PredictionError(f"{path}: has no function {function}; name one that takes frames")
    return Detector(name, hashlib.sha256(path.read_bytes()).hexdigest(), "", found)


def _load_transformers(name: str, place: str, fake_label: str, device: str) -> Detector:
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    try:
        processor = AutoImageProcessor.from_pretrained(place)
        model = AutoModelForImageClassification.from_pretrained(place, use_safetensors=True)
    except (OSError, ValueError, ImportError) as error:
        raise PredictionError(f"{place}: cannot be loaded ({one_line(error)}); name an image classifier") from error
    numbers = _fake_labels(place, model.config.id2label, fake_label)
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = model.to(chosen).eval()

    def score(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = []
        for start in range(0, len(frames), BATCH):
            images = [Image.fromarray(frame) for frame in frames[start : start + BATCH].transpose(0, 2, 3, 1)]
            inputs = processor(images=images, return_tensors="pt").to(chosen)
            with torch.inference_mode():
                shares = model(**inputs).logits.double().softmax(dim=-1)
            found.append(shares[:, numbers].sum(dim=-1).cpu().numpy())
        return np.concatenate(found)

    digest = (
        _digest_of(Path(place)) if Path(place).is_dir() else str(getattr(model.config, "_commit_hash", "") or place)
    )
    labels = [model.config.id2label[number] for number in numbers]
    note = f"{place}: the score is the probability of {' or '.join(labels)}; --fake-label names another label"
    return Detector(name, hashlib.sha256(f"{digest} {labels}".encode()).hexdigest(), note, score)


def _fake_labels(place: str, labels: dict[int, str], fake_label: str) -> list[int]:
    """Numbers of the labels that mean fake."""
    listed = ", ".join(labels.values())
    if fake_label:
        found = [number for number, label in labels.items() if label == fake_label]
        if not found:
            raise PredictionError(f"{place}: has no label {fake_label}; its labels are {listed}")
        return found
    fake = [number for number, label in labels.items() if FAKE_WORDS.search(label) and not REAL_WORDS.search(label)]
    real = [number for number, label in labels.items() if REAL_WORDS.search(label) and not FAKE_WORDS.search(label)]
    if fake and len(fake) + len(real) == len(labels):
        return fake
    if len(labels) == 2 and len(real) == 1:
        return [number for number in labels if number not in real]
    if len(labels) == 2 and len(fake) == 1:
        return fake
    raise PredictionError(f"{place}: which label means fake is not clear; pass --fake-label, one of {listed}")


def _digest_of(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
