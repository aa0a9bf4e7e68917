"""load_dataset and push_to_hub of the unmodified datasets against the embedded Hub, streaming and not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.hub.served import OWNER, Served

PUSH_AND_LOAD = """
from datasets import ClassLabel, Dataset, Features, Value, load_dataset, load_dataset_builder
features = Features({"name": Value("string"), "label": ClassLabel(names=["real", "fake"])})
columns = {"name": [f"clip {n}" for n in range(20)], "label": [n % 2 for n in range(20)]}
rows = Dataset.from_dict(columns, features=features)
rows.push_to_hub("lab/clips", "swap_video", split="train", num_shards=2)
rows.select(range(5)).push_to_hub("lab/clips", "swap_video", split="test")
for streaming in (True, False):
    loaded = load_dataset("lab/clips", "swap_video", streaming=streaming)
    assert sorted(loaded) == ["test", "train"], loaded
    assert [row["name"] for row in loaded["train"]] == [f"clip {n}" for n in range(20)]
    assert loaded["train"].features == features
assert load_dataset_builder("lab/clips", "swap_video").info.splits["test"].num_examples == 5
assert len(load_dataset("lab/clips", "swap_video", split="train", revision="main")) == 20
print("loaded")
"""


def test_push_and_load(served: Served, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": served.endpoint,
        "HF_TOKEN": OWNER,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    command = [sys.executable, "-c", PUSH_AND_LOAD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("loaded")
    files = served.api().list_repo_files("lab/clips", repo_type="dataset")
    assert len([name for name in files if name.endswith(".parquet")]) == 3
