"""Full disks, Ctrl-C and kills, on real processes and a real small file system: one line, nothing half-written, and
the same bytes in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.generation.media.sources import Kind, write_source
from tests.workspaces import reproducible_state
from tooling.errors import WorkspaceError
from tooling.settings import ClipSettings, Settings
from tooling.stages.ingest import ingest_clips
from tooling.stages.plan import draw_plan
from tooling.workspace.layout import Workspace, create_workspace, open_workspace
from tooling.workspace.path_kinds import unknown_paths

pytestmark = pytest.mark.thorough

TOOLING = Path(sys.executable).with_name("tooling")
PEOPLE = ("1", "2", "3")
CLIP = ClipSettings(seconds=2.0, width_px=640, height_px=360)

# A file system of its own that no other process sees; it is filled, then given room.
SMALL_DISK = """
mount -t tmpfs -o size={size}k tmpfs "$1" && cp -r "$2/." "$1" && cd "$1" || exit 77
{command}
echo "ended: $?" >&2
find . -type f | sort >&2
mount -o remount,size=200m "$1"
{command} || exit 1
cp -r "$1/." "$3"
"""


def snapshot(root: Path) -> dict[str, Any]:
    """A folder with a workspace in it: all that every run ends with alike."""
    place = open_workspace(root / "workspace")
    others = (path for path in root.rglob("*") if path.is_file() and place.root not in path.parents)
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in others}
    return files | {f"workspace/{name}": state for name, state in reproducible_state(place).items()}


@pytest.fixture(scope="module")
def mounting() -> None:
    """Skips where no file system can be mounted."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no small file system: `unshare -rm mount` is not allowed here")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three sources, whose parts are given so that no face is looked for, and an empty workspace."""
    folder = tmp_path_factory.mktemp("start")
    for person in PEOPLE:
        write_source(folder / "sources", Kind(f"{person}.mp4", size=(640, 360), num_frames=60 + int(person)))
    rows = "".join(f"{person},male,granted,0\n" for person in PEOPLE)
    (folder / "sources" / "identities.csv").write_text("id,gender,consent_status,start_seconds\n" + rows)
    create_workspace(folder / "workspace", Settings(clip=CLIP))
    return folder


@pytest.fixture(scope="module")
def undisturbed(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after an undisturbed ingest and plan."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(start, folder, dirs_exist_ok=True)
    for arguments in (["ingest", "sources", "--workers", "1"], ["plan"]):
        done = subprocess.run([TOOLING, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def run_on_small_disk(folder: Path, content: Path, size_kb: int, command: str) -> list[str]:
    """What two runs, on the full disk and with room, print on stderr; `folder`/result is the disk in the end."""
    disk, result = folder / "disk", folder / "result"
    for place in (disk, result):
        place.mkdir()
    script = SMALL_DISK.format(size=size_kb, command=command)
    arguments = ["unshare", "-rm", "sh", "-c", script, "sh", str(disk), str(content), str(result)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


@pytest.mark.usefixtures("mounting")
def test_full_disk_in_ingest_is_one_line_and_a_rerun_ends_alike(start: Path, undisturbed: Path, tmp_path: Path) -> None:
    content = sum(path.stat().st_size for path in start.rglob("*") if path.is_file())
    clip = (undisturbed / "workspace" / "raw_video" / "1.mp4").stat().st_size
    room_kb = (content + clip * 3 // 2) // 1024 + 24  # for one clip and a half
    command = f"{TOOLING} ingest sources --workers 2"
    lines = run_on_small_disk(tmp_path, start, room_kb, command)
    ended = lines.index("ended: 1")
    errors = [line for line in lines[:ended] if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].endswith("/workspace: the disk is full; free space and run the command again, it goes on")
    assert not any("Traceback" in line for line in lines)
    assert "./workspace/raw_video/3.mp4" not in lines
    expected = {name: content for name, content in snapshot(undisturbed).items() if name != "workspace/plan.json"}
    assert snapshot(tmp_path / "result") == expected


@pytest.mark.usefixtures("mounting")
def test_full_disk_in_build_leaves_no_release_and_a_rerun_ends_alike(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "roomy")
    done = subprocess.run([TOOLING, "build"], cwd=tmp_path / "roomy", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = sum(path.stat().st_size for path in undisturbed.rglob("*") if path.is_file())
    clip = (undisturbed / "workspace" / "raw_video" / "1.mp4").stat().st_size
    lines = run_on_small_disk(tmp_path, undisturbed, (content + clip * 3 // 2) // 1024 + 24, f"{TOOLING} build")
    ended = lines.index("ended: 1")
    errors = [line for line in lines[:ended] if line.startswith("error: ")]
    assert [error.partition(": the disk is full; ")[1] for error in errors] == [": the disk is full; "]
    assert not any("Traceback" in line for line in lines)
    assert not any(line.startswith(("./homologous_deepfake", "./.homologous_deepfake.building")) for line in lines)
    assert snapshot(tmp_path / "result") == snapshot(tmp_path / "roomy")


@pytest.mark.parametrize(
    ("number", "is_sent_to_all", "code", "num_workers"),
    [
        pytest.param(signal.SIGINT, True, 130, 1, id="control-c"),
        pytest.param(signal.SIGINT, True, 130, 2, id="control-c-2-workers"),  # a terminal sends it to the workers too
        pytest.param(signal.SIGTERM, False, 143, 2, id="sigterm"),  # docker and schedulers: to the parent alone
    ],
)
def test_an_interruption_is_one_line_and_a_rerun_ends_alike(
    start: Path, undisturbed: Path, tmp_path: Path, number: int, is_sent_to_all: bool, code: int, num_workers: int
) -> None:
    shutil.copytree(start, tmp_path, dirs_exist_ok=True)
    place = open_workspace(tmp_path / "workspace")
    command: list[str | Path] = [TOOLING, "ingest", "sources", "--workers", f"{num_workers}"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_control_c,
    )
    _wait_for(place.root / ".staging" / "raw_video" / "2.mp4", process)
    (os.killpg if is_sent_to_all else os.kill)(process.pid, number)
    out, errors = process.communicate(timeout=300)  # ends when the workers, too, have closed them
    assert process.returncode == code
    assert out == ""
    lines = [line for line in errors.splitlines() if line and not line.startswith("raw_video: ")]
    assert lines == ["error: interrupted; run the same command again, it goes on where it stopped"]
    _check_consistent(place)
    assert not ingest_clips(place, tmp_path / "sources", num_workers=1).refused
    draw_plan(place)
    assert snapshot(tmp_path) == snapshot(undisturbed)


def _hear_control_c() -> None:
    """Tests that run in the background of a shell are started deaf to it, and hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert path.exists(), "the command ended, or did not begin, before it could be interrupted"


def _check_consistent(place: Workspace) -> None:
    records = place.records("raw_video")
    assert unknown_paths(place) == []
    assert len(records) < len(PEOPLE)
    for record in records.values():
        assert place.path(record.path).stat().st_size == record.num_bytes


def test_killed_start_of_a_workspace_is_taken_up(tmp_path: Path) -> None:
    # What is on disk when a kill falls between the write of the settings and their rename.
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".workspace.toml.new").write_text("form")
    created = create_workspace(tmp_path / "w", Settings(clip=CLIP))
    assert open_workspace(created.root).settings.clip == CLIP
    assert sorted(os.listdir(created.root)) == ["keys", "workspace.toml"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.new").touch()
    with pytest.raises(WorkspaceError, match="is not empty and not a workspace"):
        create_workspace(tmp_path / "other", Settings())
