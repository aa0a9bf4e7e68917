"""`tooling jobs`: what is sent to the Hub by its own client, what is printed of it, what is refused before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.hub.served import OWNER
from tests.pages import Ended, run_command
from tests.tooling.pushing import TARGET, Watched
from tooling import __version__
from tooling.settings import Settings
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import create_workspace

SWAPS = ("jobs", "swap_video", TARGET, "--only", "1_2,2_1", "--seed", "7")
FORM = "signed form in folder A"
SENT = {
    "id": "0123456789abcdef01234567",
    "createdAt": "2026-01-02T03:04:05.678Z",
    "dockerImage": "python:3.12",
    "flavor": "cpu-upgrade",
    "status": {"stage": "SCHEDULING", "message": None},
    "owner": {"id": "1", "name": "owner", "type": "user"},
}


class Jobs(Response):
    """Answers like the Hub's jobs, and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body, has_more = body + message.get("body", b""), message.get("more_body", False)
        self.sent.append((scope["path"], json.loads(body)))
        await JSONResponse(SENT)(scope, receive, send)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the commands are typed, with a workspace of two people."""
    workspace = create_workspace(tmp_path / "typed" / "workspace", Settings())
    people = {
        "1": Identity("1", "male", "granted", "2025-03-01", FORM, 2.0, glasses="yes"),
        "2": Identity("2", "male", "withdrawn", "2025-03-01", FORM),
    }
    workspace.identities_path.write_text(format_identities(people), encoding="utf-8")
    return workspace.root.parent


@pytest.fixture
def release(hub: Watched) -> str:
    """A private repository that has a release, as far as a job looks at it; its commit."""
    api = hub.api()
    api.create_repo(TARGET, repo_type="dataset", private=True)
    name = "data/SHA256SUMS"
    return api.upload_file(path_or_fileobj=b"", path_in_repo=name, repo_id=TARGET, repo_type="dataset").oid


def refusal(ended: Ended) -> str:
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    return ended.err.removeprefix("error: ").rstrip()


def test_a_dry_run_prints_the_job_without_the_values_of_secrets(hub: Watched, release: str, folder: Path) -> None:
    ended = run_command(folder, *SWAPS, "--flavor", "a10g-small", "--device", "cuda", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines() == [
        "image: python:3.12",
        "flavor: a10g-small",
        "timeout: 6h",
        "namespace: the token's user",
        f"environment: HF_ENDPOINT={hub.endpoint}",
        "secrets: HF_TOKEN, IDENTITIES_CSV",
        "command: /bin/sh -euc",
        "    apt-get update -qq",
        "    apt-get install -qq -y --no-install-recommends ffmpeg libgl1 libglib2.0-0",
        f"    pip install --quiet 'homologous-deepfake[tooling,identity]=={__version__}'",
        '    printf %s "$IDENTITIES_CSV" >identities.csv',
        f"    tooling pull {TARGET} --revision {release} --identities identities.csv",
        "    status=0",
        "    tooling generate swap_video --device=cuda --only=1_2,2_1 --seed=7 || status=$?",
        "    tooling verify",
        "    tooling build",
        "    tooling card",
        f"    tooling push {TARGET} --revision job-swap_video",
        "    exit $status",
    ]
    assert hub.traffic.count("POST", "/api/jobs") == 0


def test_a_job_is_sent_as_it_is_printed_and_tells_where_it_is(hub: Watched, release: str, folder: Path) -> None:
    jobs = Jobs()
    hub.traffic.fault = lambda method, path: jobs if path.startswith("/api/jobs/") else None
    printed = run_command(folder, *SWAPS, "--software", "", "--dry-run").out
    ended = run_command(folder, *SWAPS, "--software", "", "--timeout", "90m")
    assert (ended.code, ended.out) == (0, f"{hub.endpoint}/jobs/owner/{SENT['id']}\n")
    assert f"tooling pull {TARGET}@job-swap_video" in " ".join(ended.err.split())
    ((path, sent),) = jobs.sent
    assert path == "/api/jobs/owner"
    assert (sent["dockerImage"], sent["flavor"], sent["timeoutSeconds"]) == ("python:3.12", "cpu-upgrade", 5400)
    assert sent["command"][:-1] == ["/bin/sh", "-euc"]
    assert "".join(f"    {line}\n" for line in sent["command"][-1].splitlines()) in printed
    assert "pip" not in sent["command"][-1]
    assert sent["environment"] == {"HF_ENDPOINT": hub.endpoint}
    assert sent["secrets"].keys() == {"HF_TOKEN", "IDENTITIES_CSV"}
    assert sent["secrets"]["HF_TOKEN"] == OWNER
    assert OWNER not in json.dumps({**sent, "secrets": None}) + ended.out + ended.err + printed


def test_only_consent_and_glasses_leave_the_workspace(hub: Watched, release: str, folder: Path) -> None:
    jobs = Jobs()
    hub.traffic.fault = lambda method, path: jobs if path.startswith("/api/jobs/") else None
    assert run_command(folder, *SWAPS, "--namespace", "lab").code == 0
    ((path, sent),) = jobs.sent
    assert path == "/api/jobs/lab"
    assert FORM in (folder / "workspace" / "identities.csv").read_text()
    assert sent["secrets"]["IDENTITIES_CSV"].splitlines()[1:] == ["1,male,granted,,,,yes", "2,male,withdrawn,,,,"]


def test_a_job_that_the_hub_refuses_is_one_line_without_the_token(hub: Watched, release: str, folder: Path) -> None:
    answer = JSONResponse({"error": "Payment required"}, 402)
    hub.traffic.fault = lambda method, path: answer if path.startswith("/api/jobs/") else None
    ended = run_command(folder, *SWAPS)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"error: {TARGET}: ")
    assert "Payment required" in ended.err
    assert OWNER not in ended.err
    assert hub.traffic.count("POST", "/api/jobs") == 1  # a second one might be paid for twice


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("swap_videos",), "swap_videos: cannot be generated"),
        (("swap_video", "--generator", "simswap"), "simswap: needs weights; push them to a repository"),
        (("swap_video", "--generator", "simswap", "--weights", "weights"), "weights: is not a repository at the Hub"),
        (("swap_video", "--generator", "onnx:/a/b.onnx"), "/a/b.onnx: is not a repository at the Hub"),
        (("swap_video", "--generator", "nobody"), "nobody: no such generator"),
        (("swap_video", "--timeout", "soon"), "soon: is not a time; use seconds, or a number with s, m, h or d"),
        (("all", "--only", "1"), "all: takes each family's default"),
    ],
)
def test_what_a_job_could_not_do_is_refused_here(options: tuple[str, ...], message: str, folder: Path) -> None:
    subset, *others = options
    assert refusal(run_command(folder, "jobs", subset, TARGET, *others)).startswith(message)


def test_a_public_repository_is_refused(hub: Watched, release: str, folder: Path) -> None:
    hub.api().update_repo_settings(TARGET, repo_type="dataset", private=False)
    assert refusal(run_command(folder, *SWAPS)).startswith(f"{TARGET}: is public, and fakes of a job are not reviewed")


def test_a_repository_without_a_release_is_refused(hub: Watched, folder: Path) -> None:
    hub.api().create_repo(TARGET, repo_type="dataset", private=True)
    ended = run_command(folder, *SWAPS)
    assert (ended.code, f"has no release; run `tooling push {TARGET}` first" in " ".join(ended.err.split())) == (
        1,
        True,
    )
