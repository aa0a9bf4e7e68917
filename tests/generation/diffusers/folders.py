"""Folders of tiny pipelines of diffusers, as a published one looks, with settings that fit their size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import diffusers
import torch
from safetensors.torch import save_file

from generation.generators.diffusers.catalogue import read_catalogue
from generation.generators.loading import load_generator
from generation.generators.registry import Family, LoadOptions
from tests.generation.diffusers.tiny import BUILDERS, SIDE_PX

STEPS = {"num_inference_steps": 2}
SHORT = {"max_sequence_length": 16}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "FluxPipeline": SHORT,
    "StableDiffusion3Pipeline": SHORT,
    "PixArtSigmaPipeline": SHORT | {"use_resolution_binning": False},
    "SanaPipeline": {"use_resolution_binning": False},
}


def save_pipeline(class_name: str, folder: Path, **settings: dict[str, Any]) -> Path:
    """Builds a pipeline with random weights of seed 0 and saves it, with settings by family."""
    torch.manual_seed(0)
    BUILDERS[class_name]().save_pretrained(folder)
    (folder / "generator.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def save_face_adapter(folder: Path, inpaint: Path, width: int = 32) -> Path:
    """A FaceID adapter with random weights that fits the network of an inpainting folder."""
    torch.manual_seed(1)
    network = diffusers.UNet2DConditionModel.from_pretrained(inpaint / "unet")
    weights = {
        "image_proj.proj.0.weight": torch.randn(1024, 512) / 20,
        "image_proj.proj.0.bias": torch.zeros(1024),
        "image_proj.proj.2.weight": torch.randn(4 * width, 1024) / 20,
        "image_proj.proj.2.bias": torch.zeros(4 * width),
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    place = 1  # published files count all attention layers and hold the odd ones, those of cross attention
    for name, part in network.named_modules():
        if name.endswith("attn2"):
            for key in ("k", "v"):
                weights[f"ip_adapter.{place}.to_{key}_ip.weight"] = torch.randn(part.inner_dim, width) / 4
            place += 2
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "face_adapter.safetensors")
    return folder


class PipelineFolders:
    """Folders of tiny pipelines by class name, each built once with settings for every family; read only."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __call__(self, class_name: str) -> Path:
        folder = self._root / class_name
        if not folder.exists():
            save_pipeline(class_name, folder, **tiny_settings(class_name))
        return folder

    def copy(self, class_name: str, parent: Path) -> Path:
        """A copy that a test may change."""
        return Path(shutil.copytree(self(class_name), parent / class_name))


def tiny_settings(class_name: str) -> dict[str, dict[str, Any]]:
    """Sizes and steps that fit tiny networks, for each family that a class serves."""
    size: dict[str, Any] = {"size_px": SIDE_PX}
    editing = {"arguments": STEPS}
    if class_name == "StableDiffusionPipeline":  # by LEDITS++; its masks need networks of the usual depth
        editing = {"invert": {"num_inversion_steps": 3}, "arguments": {"use_cross_attn_mask": False}}
    segments = {"segment_frames": 5} if class_name == "WanAnimatePipeline" else {}
    wanted = {
        "full_face_generation": size | {"arguments": STEPS | ARGUMENTS.get(class_name, {})},
        "attribute_editing": size | editing,
        "face_swap": size | segments | {"arguments": STEPS},
        "expression_driven": size | segments | {"arguments": STEPS},
    }
    return {family: wanted[family] for family in read_catalogue()[class_name]}


def loaded(folder: Path, family: Family, **options: Any) -> Any:
    return load_generator(f"diffusers:{folder}", LoadOptions(device="cpu", **options), family=family)
