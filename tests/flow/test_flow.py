"""The whole flow, command by command, as a maintainer types it: from source videos to `load_dataset`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.served import OWNER, Served, patch_endpoint
from tests.pages import DOCS, MAINTAINERS, RESEARCHERS, run_command, run_page
from tooling.actors import SourceSettings, write_sources
from tooling.settings import ClipSettings, Settings
from tooling.stages.generate.job import JobRequest, prepare_job
from tooling.workspace.layout import create_workspace, open_workspace
from tooling.workspace.path_kinds import unknown_paths

pytestmark = pytest.mark.thorough

TOOLING = Path(sys.executable).with_name("tooling")
REPO = "lab/homologous_deepfake"
STAGES = (
    ["ingest", "sources", "--workers", "1"],
    ["faces", "--workers", "1"],
    ["plan"],
    ["generate", "swap_video", "--workers", "1"],
    ["verify", "--workers", "1"],
    ["build"],
    ["card"],
    ["contact-sheet"],
)
LOAD = """
from datasets import load_dataset
for streaming in (False, True):
    data = load_dataset("homologous_deepfake", "swap_video", streaming=streaming)
    row = next(iter(data["train"]))
    print(row["sample_id"], data["train"].features["label"].int2str(row["label"]), tuple(row["video"][0].shape),
          len(row["boxes"]), row["real_path"])
"""


def snapshot(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole job has run: two women, 0.8 s each, a quarter of the usual size."""
    folder = tmp_path_factory.mktemp("flow")
    write_sources(folder / "sources", SourceSettings(0, 2, 1.2, width_px=640, height_px=360))
    create_workspace(folder / "workspace", Settings(clip=ClipSettings(seconds=0.8, width_px=640, height_px=360)))
    for arguments in STAGES:
        done = run_command(folder, *arguments)
        assert done.code == 0, f"tooling {' '.join(arguments)}: {done.err}"
    return folder


def test_release_loads_typed_and_decodes(folder: Path) -> None:
    environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOAD], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    line = "swap_video/1_2 fake (3, 360, 640) 24 raw_video/1.mp4"
    assert done.stdout.splitlines() == [line, line]


def test_card_has_counts_of_this_release_and_no_leftover_markers(folder: Path) -> None:
    card = (folder / "homologous_deepfake" / "README.md").read_text(encoding="utf-8")
    assert "make demo" not in card
    assert "<!--" not in card
    assert "| `swap_video` | fake |" in card
    assert "2 | 100 |" in card
    assert "`weightfree-swap`" in card
    assert (folder / "homologous_deepfake" / "pictures" / "swap_video.jpg").stat().st_size > 10_000
    assert not list((folder / "homologous_deepfake").rglob("*.py"))


def test_rerun_makes_nothing_and_changes_no_byte(folder: Path) -> None:
    assert unknown_paths(open_workspace(folder / "workspace")) == []
    before = snapshot(folder / "workspace"), snapshot(folder / "homologous_deepfake")
    for arguments in STAGES[:4]:
        done = run_command(folder, *arguments, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out).get("made", []) == []
    for arguments in STAGES[4:7]:
        assert run_command(folder, *arguments).code == 0
    assert (snapshot(folder / "workspace"), snapshot(folder / "homologous_deepfake")) == before


def test_pages_for_maintainers_do_what_they_say(
    folder: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_endpoint(monkeypatch, served.endpoint)
    monkeypatch.setenv("HF_TOKEN", OWNER)
    shutil.copytree(folder, tmp_path / "job")
    printed = {name: run_page(name, tmp_path / "job") for name in MAINTAINERS}
    assert "edit_video: 1 made" in printed["regenerate"][2]
    assert "tag 1.0.0" in printed["push"][3]
    assert (tmp_path / "job" / "pulled" / "raw_video" / "1.mp4").is_file()
    assert not list((tmp_path / "job" / "workspace").glob("*_video/**/*2*.mp4"))
    files = served.api().list_repo_files("lab/homologous_deepfake", repo_type="dataset")
    assert "README.md" in files


def test_every_page_is_run_and_found_in_the_readme() -> None:
    pages = {path.stem for path in DOCS.glob("*.md")}
    assert pages == {*RESEARCHERS, *MAINTAINERS, "CONTRIBUTING"}
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(pages) if f"(docs/{name}.md)" not in readme] == []


@pytest.mark.slow
def test_a_job_makes_fakes_there_that_are_pulled_here(
    folder: Path, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs the very command that is sent, on this machine, with the variables that a job has."""
    patch_endpoint(monkeypatch, served.endpoint)
    monkeypatch.setenv("HF_TOKEN", OWNER)
    shutil.copytree(folder, tmp_path / "here")
    assert run_command(tmp_path / "here", "push", REPO, "--private").code == 0
    workspace = open_workspace(tmp_path / "here" / "workspace")
    about = {"branch": "aged", "image": "python:3.12", "software": "", "flavor": "cpu-upgrade", "timeout": "6h"}
    job = prepare_job(workspace, JobRequest(["edit_video", "--only=age/1"], REPO, **about))
    (there := tmp_path / "there").mkdir()
    own = {"HOME": str(there), "PATH": f"{TOOLING.parent}:{os.environ['PATH']}", "PYTHONPATH": str(DOCS.parent)}
    done = subprocess.run(job.command, cwd=there, env=own | job.env | job.secrets, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert OWNER not in done.stdout + done.stderr
    pulled = run_command(tmp_path / "here", "pull", f"{REPO}@aged")
    assert pulled.code == 0, pulled.err
    assert workspace.path("edit_video/age/1.mp4").is_file()
    assert run_command(tmp_path / "here", "verify").code == 0
