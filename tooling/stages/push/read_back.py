"""Reads a pushed release back as its users will: files and digests, rows of each split, the first row streamed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import constants, get_token

from homologous_deepfake import SUBSETS
from tooling.release.folder import Release
from tooling.remote import Remote, RemoteError, direct_environment, is_on_this_machine, redact
from tooling.stages.push.checks import LocalFile
from tooling.stages.push.comparison import same_content

FOOTER_BYTES = 1 << 16  # fetched at once; a footer is smaller
STREAM_SECONDS = 600
# A process of its own: datasets reads the endpoint when it is imported, and must find no earlier cache. It ends at
# once: threads that still fetch what comes after the first row abort a Python that takes its time to end.
STREAM = """
import hashlib, json, os, sys
from datasets import Image, Video, load_dataset
repo_id, commit, config, split, media = sys.argv[1:]
rows = load_dataset(repo_id, config, split=split, revision=commit, streaming=True)
if media:
    rows = rows.cast_column(media, {"video": Video, "image": Image}[media](decode=False))
row = next(iter(rows))
content = row[media]["bytes"] if media else b""
digest = hashlib.sha256(content).hexdigest() if media else row["sha256"]
print(json.dumps([row["sample_id"], row["sha256"], digest]), flush=True)
os._exit(0)
"""


def read_back(remote: Remote, commit: str, files: Mapping[str, LocalFile], release: Release, out: Path) -> None:
    """Compares what a commit serves with the release that was pushed.

    Raises:
        RemoteError: something differs from what was sent; names it.
    """
    found = remote.files(commit)
    for name, local in files.items():
        if name not in found or not same_content(local, found[name]):
            raise _differs(remote, commit, f"{name} is missing or differs")
    if more := [name for name in found if name.startswith("data/") and name not in files]:
        raise _differs(remote, commit, f"{more[0]} is not part of the release")
    check_row_counts(remote, commit, release)
    check_first_row(remote, commit, release, out)


def check_row_counts(remote: Remote, commit: str, release: Release) -> None:
    """Rows of each config and split, from the footers of the shards at the Hub; only the footers are fetched."""
    for name, config in release.configs.items():
        for split, built in config.splits.items():
            num_rows = sum(_num_rows(remote, shard.path, commit) for shard in built.shards)
            if num_rows != built.num_examples:
                raise _differs(remote, commit, f"{name}/{split} has {num_rows} rows, not {built.num_examples}")


def check_first_row(remote: Remote, commit: str, release: Release, out: Path) -> None:
    """Streams the first row of the first config with datasets, as a user does, and compares it with the built one."""
    name, config = next(iter(release.configs.items()))
    split, built = next(iter(config.splits.items()))
    media = SUBSETS[name].media if name in SUBSETS else ""
    with pq.ParquetFile(out / built.shards[0].path) as shard:
        batch = next(shard.iter_batches(batch_size=1, columns=["sample_id", "sha256"]))
    first = batch.to_pylist()[0]
    with tempfile.TemporaryDirectory(prefix="read_back_") as home:
        done = subprocess.run(
            [sys.executable, "-c", STREAM, remote.repo_id, commit, name, split, media],
            env=_environment(remote, home),
            cwd=home,  # a folder of the repository's name would be taken for it
            capture_output=True,
            text=True,
            timeout=STREAM_SECONDS,
            check=False,
        )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise _differs(remote, commit, f"{name} does not stream ({redact(reason)[:300]})")
    row: list[Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if row != [first["sample_id"], first["sha256"], first["sha256"]]:
        raise _differs(remote, commit, f"the first row of {name}/{split} is not {first['sample_id']} as built")


def _environment(remote: Remote, home: str) -> dict[str, str]:
    """The caller's, with an empty cache."""
    inherited = direct_environment() if is_on_this_machine(remote.api.endpoint) else os.environ
    kept = {name: value for name, value in inherited.items() if not name.startswith(("HF_", "HUGGINGFACE_"))}
    own = {
        "HF_ENDPOINT": remote.api.endpoint,
        "HF_HOME": home,
        "HF_HUB_DISABLE_XET": str(int(constants.HF_HUB_DISABLE_XET)),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    token = get_token()
    return kept | own | ({"HF_TOKEN": token} if token else {})


def _num_rows(remote: Remote, path: str, commit: str) -> int:
    try:
        return remote.read(path, commit, lambda file: int(pq.read_metadata(file).num_rows), block_bytes=FOOTER_BYTES)
    except pa.ArrowInvalid as error:
        raise _differs(remote, commit, f"{path} cannot be read as Parquet") from error


def _differs(remote: Remote, commit: str, what: str) -> RemoteError:
    way_out = "run `tooling push REPO_ID` again; if that does not help, remove the commit's tag"
    return RemoteError(f"{remote.repo_id}@{commit[:8]}: read back after the push, {what}; {way_out}", "damaged")
