"""The whole flow on synthetic actors, from source videos to `load_dataset` and to a Hub, in one folder."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tooling
from homologous_deepfake import FAKES
from tooling import console
from tooling.actors import SourceSettings, write_sources
from tooling.errors import ToolingError
from tooling.hub.rights import add_organisation, add_token, add_user
from tooling.hub.root import Hub
from tooling.hub.server import serve
from tooling.remote import direct_environment
from tooling.settings import ClipSettings, Settings
from tooling.stages.audit.run import audit_files, raise_for_failures
from tooling.stages.build import build_release
from tooling.stages.card.run import make_card
from tooling.stages.faces import crop_faces
from tooling.stages.generate.run import GenerateRequest, generate_fakes
from tooling.stages.ingest import ingest_clips
from tooling.stages.plan import PlanChange, change_plan, draw_plan
from tooling.stages.verify.run import raise_for_errors, verify_files
from tooling.views.contact_sheet import write_contact_sheet
from tooling.views.report.page import write_report
from tooling.workspace.layout import Workspace, create_workspace, open_workspace
from tooling.workspace.records import StageResult

REPO_ID = "lab/homologous_deepfake"
EXAMPLES = Path(tooling.__file__).resolve().parent.parent / "examples"
SOURCE_EXTRA_SECONDS = 1.0  # a source is longer than its clip, so that ingest has a window to choose


@dataclass(frozen=True)
class DemoSettings:
    """Size of the demo: people of each gender, seconds of each clip, images, processes (0: one per processor)."""

    num_men: int = 4
    num_women: int = 4
    clip_seconds: float = 2.0
    num_images: int = 18
    num_workers: int = 0


def run_demo(folder: Path, settings: DemoSettings) -> None:
    """Runs every stage and prints the first row; a rerun in the same folder goes on where it stopped.

    Raises:
        ToolingError: a stage refused something, or the built release does not load.
    """
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    sources, release, sheet = folder / "sources", folder / "homologous_deepfake", folder / "contact_sheet.jpg"
    page = folder / "report.html"
    if not (sources / "identities.csv").exists():
        with console.progress_bar("actors") as bar:
            seconds = settings.clip_seconds + SOURCE_EXTRA_SECONDS
            actors = SourceSettings(settings.num_men, settings.num_women, seconds)
            write_sources(sources, actors, num_workers=settings.num_workers, progress=bar)
    workspace = _workspace(folder / "workspace", settings)
    with workspace.locked():
        _make_everything(workspace, sources, settings)
        with console.progress_bar("build shards") as bar:
            build_release(workspace, release, progress=bar)
    with console.progress_bar("card"):
        make_card(workspace, release)
    with console.progress_bar("contact sheet") as bar:
        write_contact_sheet(workspace, sheet, max_rows=3, progress=bar)
    with console.progress_bar("report") as bar:
        write_report(workspace, page, num_workers=settings.num_workers, progress=bar)
    console.say('load_dataset("homologous_deepfake", "swap_video")')
    with console.progress_bar("load"):
        loaded = _load(folder)
    console.put(loaded)
    with console.progress_bar("publish and stream"):
        streamed = _publish(folder)
    console.put(streamed)
    with console.progress_bar("pairs"):
        _run_example(folder, "show_pairs.py", "homologous_deepfake", "pairs.png")
    console.say("a detector of traces in the frequency domain, trained and tested on different people:")
    with console.progress_bar("baseline"):
        table = _run_example(folder, "frequency_detector.py", "homologous_deepfake", "--out", "baseline")
    console.put(table)
    console.say(f"made in {time.monotonic() - started:.0f} s; look at")
    console.say(f"  {page}: what the workspace holds, what was found, and every fake beside its target")
    console.say(f"  {sheet}: fakes beside what they were made from")
    console.say(f"  {folder / 'pairs.png'}: frames of a fake and its real clip, cut alike, and where they differ")
    console.say(f'  datasets.load_dataset("{release}", "swap_video") in {sys.executable}')


def _workspace(root: Path, settings: DemoSettings) -> Workspace:
    if (root / "workspace.toml").exists():
        return open_workspace(root)
    return create_workspace(root, Settings(clip=ClipSettings(seconds=settings.clip_seconds)))


def _make_everything(workspace: Workspace, sources: Path, settings: DemoSettings) -> None:
    num_workers = settings.num_workers
    with console.progress_bar("raw_video") as bar:
        _raise_for_refusals(ingest_clips(workspace, sources, num_workers=num_workers, progress=bar))
    with console.progress_bar("face_video") as bar:
        _raise_for_refusals(crop_faces(workspace, num_workers=num_workers, progress=bar))
    draw_plan(workspace)
    for subset in FAKES:
        request = GenerateRequest(limit=settings.num_images if subset == "GAN_images" else None)
        with console.progress_bar(subset) as bar:
            _raise_for_refusals(generate_fakes(workspace, subset, request, num_workers=num_workers, progress=bar))
    with console.progress_bar("verify") as bar:
        findings = verify_files(workspace, num_workers=num_workers, progress=bar)
    if failed := [one for one in findings if (one.severity, one.kind) == ("error", "content") and _is_fake(one.path)]:
        for finding in failed:  # as a maintainer would: two actors may be too alike for a swap to show who is who
            console.say(f"left out: {finding}")
        names = [finding.path.rpartition(".")[0] for finding in failed]
        change_plan(workspace, PlanChange(exclude=names, reason="failed verification"))
        with console.progress_bar("verify") as bar:
            findings = verify_files(workspace, num_workers=num_workers, progress=bar)
    raise_for_errors(findings)
    with console.progress_bar("audit") as bar:
        raise_for_failures(audit_files(workspace, num_workers=num_workers, progress=bar))


def _is_fake(path: str) -> bool:
    return path.partition("/")[0] in FAKES


def _raise_for_refusals(result: StageResult) -> None:
    for name, reason in result.refused.items():
        raise ToolingError(f"{name}: {reason}")


def _publish(folder: Path) -> str:
    """Pushes to the embedded Hub and streams from it; the commands are a maintainer's and a researcher's own."""
    shutil.rmtree(folder / "hub", ignore_errors=True)  # a rehearsal: every demo is the first release of its Hub
    hub = Hub(folder / "hub")
    try:
        add_user(hub.database, "maintainer", "Maintainer", "maintainer@example.org")
        add_organisation(hub.database, "lab", ["maintainer"])
        token = add_token(hub.database, "maintainer", "write")
        with serve(hub) as endpoint:
            reach = {
                "HF_ENDPOINT": endpoint,
                "HF_TOKEN": token,
                "HF_HUB_CACHE": str((folder / ".cache" / "hub").resolve()),
            }
            console.say(f"tooling push {REPO_ID} --private   (embedded Hub at {endpoint})")
            command = [
                sys.executable,
                "-P",
                "-c",
                "from tooling.cli.app import main; main()",
                "push",
                REPO_ID,
                "--private",
            ]
            console.say(_run(folder, [*command, "-w", "workspace"], reach))
            console.say(f'load_dataset("{REPO_ID}", "swap_video", streaming=True)')
            return _run(folder, [sys.executable, str(EXAMPLES / "stream_swap_video.py"), REPO_ID], reach)
    finally:
        hub.close()


def _load(folder: Path) -> str:
    """Loads the release as a researcher would: another process, in the folder of the release."""
    return _run_example(folder, "load_swap_video.py")


def _run_example(folder: Path, name: str, *arguments: str) -> str:
    return _run(folder, [sys.executable, str(EXAMPLES / name), *arguments], {"HF_HUB_OFFLINE": "1"})


def _run(folder: Path, command: list[str], environment: dict[str, str]) -> str:
    everything = {**direct_environment(), "HF_DATASETS_CACHE": str((folder / ".cache").resolve()), **environment}
    done = subprocess.run(command, cwd=folder, env=everything, capture_output=True, text=True, check=False)
    if done.returncode:
        console.say(done.stderr.rstrip())
        raise ToolingError(f"{folder}: this failed, see its output above: {shlex.join(command)}")
    return done.stdout.rstrip()
