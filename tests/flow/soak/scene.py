"""A folder with one small file of every kind that a command reads."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch

from detection.predictions import read_samples
from generation.generators.conversion.convert import convert
from homologous_deepfake import SUBSETS
from tests.flow.soak.child import register_tiny_networks
from tests.generation.media.sources import Kind, write_source
from tests.generation.networks.onnx_files import identity, matrix, swapper
from tests.generation.networks.published import (
    mcnet_parts,
    save_identity,
    tiny_detector,
    tiny_identity,
    tiny_mcnet,
    tiny_swap,
)
from tests.generation.weights.written import publish
from tests.workspaces import make_workspace
from tooling.settings import ClipSettings, Settings, ShardSettings
from tooling.stages import build as shards
from tooling.stages.card import run as card
from tooling.stages.verify import run as verify
from tooling.workspace.files import write_text
from tooling.workspace.layout import Workspace, create_workspace
from tooling.workspace.settings_file import format_settings

DATA = Path(__file__).parents[2] / "data"
RELEASE = "homologous_deepfake"
SOURCES_CLIP = ClipSettings(seconds=0.5, width_px=160, height_px=96)
LOG = {"repo": "lab/x", "user": "ann", "version": "1.0.0"}


def make_scene(root: Path, filmed: Path) -> None:
    """Fills a folder: workspaces, a release, an archive, sources, weights, predictions.

    Args:
        root: to create.
        filmed: the workspace that `film_people` makes.
    """
    register_tiny_networks()
    workspace = make_workspace(root / "workspace", 2, 2, 2)
    settings = dataclasses.replace(workspace.settings, shards=ShardSettings(min_train_shards=1))
    write_text(workspace.root / "workspace.toml", format_settings(settings))
    write_more_files(workspace)
    verify.verify_files(workspace, num_workers=1)
    shards.build_release(workspace, root / RELEASE)
    card.make_card(workspace, root / RELEASE)
    shutil.copytree(filmed, root / "filmed")
    shutil.copytree(root / RELEASE, root / "other")
    write_sources(root)
    write_archives(root, workspace)
    write_predictions(root)
    write_weights(root)


def write_more_files(workspace: Workspace) -> None:
    """What a workspace has after rejections, requests for access and a takedown."""
    tables: dict[str, list[dict[str, Any]]] = {
        "tombstones.jsonl": [{"identity": "9", "date": "2026-01-02"}],
        "rejects.jsonl": [{"sample_id": "swap_video/1_2", "generator": "weightfree-swap", "seed": 1, "reason": "x"}],
        "recipients.jsonl": [{"date": "2026-01-02", "action": "accepted", **LOG, "reason": ""}],
    }
    for name, lines in tables.items():
        write_text(workspace.root / name, "".join(json.dumps(line) + "\n" for line in lines))


def write_sources(root: Path) -> None:
    """Two films of which the part is given, so that no face is looked for, and an empty workspace for them."""
    for person in ("1", "2"):
        write_source(root / "sources", Kind(f"{person}.mp4", size=(160, 96), num_frames=16 + int(person)))
    rows = "id,gender,consent_status,start_seconds\n1,male,granted,0\n2,female,granted,0\n"
    write_text(root / "sources" / "identities.csv", rows)
    create_workspace(root / "empty", Settings(clip=SOURCES_CLIP))


def write_archives(root: Path, workspace: Workspace) -> None:
    """The published archive as zip and tar, and a workspace that waits for it."""
    records = [record for subset in SUBSETS for record in workspace.records(subset).values()]
    paths = [record.path for record in records if record.subset in ("raw_video", "swap_video", "GAN_images")]
    with zipfile.ZipFile(root / "archive.zip", "w") as archive, tarfile.open(root / "archive.tar.gz", "w:gz") as tar:
        for path in paths:
            archive.write(workspace.path(path), path)
            tar.add(workspace.path(path), path)
            if not path.startswith("raw_video"):
                (root / "archive" / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(workspace.path(path), root / "archive" / path)
    waiting = create_workspace(root / "waiting", workspace.settings)
    write_text(waiting.identities_path, workspace.identities_path.read_text())


def write_predictions(root: Path) -> None:
    samples = [name for name, row in read_samples(str(root / RELEASE)).items() if row["split"] == "test"]
    table = pa.table({"sample_id": samples, "score": [number / len(samples) for number in range(len(samples))]})
    pq.write_table(table, root / "predictions.parquet")
    pyarrow.csv.write_csv(table, root / "predictions.csv")
    write_text(root / "predictions.jsonl", "".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    write_text(root / "detector.py", "def score(frames):\n    return frames.mean((1, 2, 3)) / 255\n")


def write_weights(root: Path) -> None:
    """Tiny networks as published and as converted, and in ONNX."""
    downloads = root / "downloads"
    publish(downloads / "zip")
    publish(downloads / "legacy", is_zip=False)
    for name in ("tiny_net.pth", "tiny_mean.pt"):
        (downloads / "legacy" / name).rename(downloads / "legacy" / f"old_{name}")
    torch.save(tiny_swap().state_dict(), downloads / "latest_net_G.pth")
    with pytest.MonkeyPatch.context() as patched:
        save_identity(downloads / "arcface_checkpoint.tar", tiny_identity(), patched)
    torch.save(mcnet_parts(tiny_mcnet(), tiny_detector()), downloads / "00000099-checkpoint.pth.tar")
    shutil.copyfile(DATA / "stylegan3" / "tiny_t.pkl", downloads / "stylegan3-t-ffhq-1024x1024.pkl")
    with tarfile.open(downloads / "tiny.tar.gz", "w:gz") as tar:
        for name in ("tiny_net.pth", "tiny_mean.pt"):
            tar.add(downloads / "zip" / name, name)
    convert(
        "simswap", [downloads / "latest_net_G.pth", downloads / "arcface_checkpoint.tar"], root / "weights" / "simswap"
    )
    convert(
        "tiny-faces",
        [downloads / "zip" / "tiny_net.pth", downloads / "zip" / "tiny_mean.pt"],
        root / "weights" / "tiny-faces",
    )
    swapper(downloads / "inswapper_128.onnx", 128, matrix(1), gain=0.9, blur_px=9)
    identity(downloads / "w600k_r50.onnx")
