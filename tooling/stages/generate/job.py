"""The same generation as a job at Hugging Face: a release is pulled there, its fakes made, verified and pushed.

In: a request, and the private repository of a release with clips, crops and plan. Out: a job; its fakes are on a branch
of that repository when it has ended. A job's machine has no master clips, no records of stages and no keys of the
maintainers: its fakes are made from the released clips, and are signed with a test certificate of that machine.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import JobInfo, constants, get_token

from generation.generators.registry import GENERATORS, SCHEMES
from homologous_deepfake import FAKES
from tooling import __version__
from tooling.errors import ConsentError, InputError, UsageError
from tooling.release.folder import CHECKSUMS
from tooling.remote import connect
from tooling.workspace.identities import Identity, format_identities
from tooling.workspace.layout import Workspace

SOFTWARE = f"homologous-deepfake[tooling,identity]=={__version__}"
LIBRARIES = "ffmpeg libgl1 libglib2.0-0"  # as scripts/install_system_libraries.sh
TIME = re.compile(r"[0-9]+(\.[0-9]+)?[smhd]?")
PUBLIC_ENDPOINT = "https://huggingface.co"


@dataclass(frozen=True)
class JobRequest:
    """What a job does and where.

    Attributes:
        arguments: of `tooling generate`, the subset first.
        repo_id: OWNER/NAME of the private repository that has the release, and gets the branch.
        branch: which the fakes are pushed to, with everything else of the release.
        image: of Docker, Debian or derived from it, with Python.
        software: what pip installs there; "" if the image has this program and its libraries.
        flavor: of the machine, as `hf jobs hardware` lists them.
        timeout: after which the job is ended and nothing is pushed: seconds, or with the unit s, m, h or d.
        revision: branch, tag or commit of the release; None is the branch main.
        namespace: user or organisation that pays; None is the token's user.

    Raises:
        UsageError: `timeout` is not a time.
    """

    arguments: Sequence[str]
    repo_id: str
    branch: str
    image: str
    software: str
    flavor: str
    timeout: str
    revision: str | None = None
    namespace: str | None = None

    def __post_init__(self) -> None:
        if not TIME.fullmatch(self.timeout):
            raise UsageError(f"{self.timeout}: is not a time; use seconds, or a number with s, m, h or d")


@dataclass(frozen=True)
class Job:
    """A job as it is sent; the values of secrets appear in no text of it.

    Attributes:
        command: what the container runs.
        secrets: name -> value; the job sees them as variables of its environment, nobody else does.
        env: other variables.
    """

    request: JobRequest
    command: list[str]
    secrets: dict[str, str] = dataclasses.field(repr=False)
    env: dict[str, str]

    def __str__(self) -> str:
        """For people: everything but the values of secrets."""
        request = self.request
        about = {
            "image": request.image,
            "flavor": request.flavor,
            "timeout": request.timeout,
            "namespace": request.namespace or "the token's user",
            "environment": " ".join(f"{name}={value}" for name, value in self.env.items()) or "nothing",
            "secrets": ", ".join(self.secrets),
            "command": shlex.join(self.command[:-1]),
        }
        script = "".join(f"\n    {line}" for line in self.command[-1].splitlines())
        return "\n".join(f"{name}: {value}" for name, value in about.items()) + script


def check_names(subset: str, generator: str, weights: str) -> None:
    """Checks that a job can find a generator and its weights: it has no files of this machine.

    Raises:
        UsageError: a local file or folder is named, weights are missing, or there is no such subset or generator.
    """
    if subset not in (*FAKES, "all"):
        raise UsageError(f"{subset}: cannot be generated; generated are {', '.join(FAKES)}, or all")
    scheme, _, location = generator.partition(":")
    if generator and generator not in GENERATORS and not (scheme in SCHEMES and location):
        raise UsageError(f"{generator}: no such generator; `tooling generators` lists them")
    for path in (location, weights):
        if path and (Path(path).exists() or path.count("/") != 1):
            raise UsageError(f"{path}: is not a repository at the Hub, OWNER/NAME; a job has no files of this machine")
    if generator in GENERATORS and GENERATORS[generator].weights and not weights:
        raise UsageError(f"{generator}: needs weights; push them to a repository and name it with --weights")


def prepare_job(workspace: Workspace, request: JobRequest) -> Job:
    """Checks what a job needs, and writes its command; sends nothing.

    Args:
        workspace: whose identities.csv says who has granted consent; only that is sent of it, and who wears glasses.
        request: what to do.

    Raises:
        UsageError: there is no token, or the repository is not private.
        ConsentError: nobody has granted consent.
        InputError: the repository has no release.
        RemoteError: the Hub refuses or cannot be reached.
    """
    token = get_token()
    if token is None:
        raise UsageError("no token: a job pulls and pushes with one; run `hf auth login` or set HF_TOKEN")
    remote = connect(request.repo_id)
    if not remote.call("repo_info").private:
        why = "fakes of a job are not reviewed, and are signed with a test certificate"
        raise UsageError(f"{request.repo_id}: is public, and {why}; push the release to a private repository")
    commit = remote.head(request.revision)
    if f"data/{CHECKSUMS}" not in remote.files(commit):
        raise InputError(f"{request.repo_id}@{commit[:12]}: has no release; run `tooling push {request.repo_id}` first")
    secrets = {"HF_TOKEN": token, "IDENTITIES_CSV": _consent(workspace)}
    env = {} if constants.ENDPOINT == PUBLIC_ENDPOINT else {"HF_ENDPOINT": constants.ENDPOINT}
    return Job(request, ["/bin/sh", "-euc", _script(request, commit)], secrets, env)


def submit_job(job: Job) -> JobInfo:
    """Sends a job; the Hub's answer says where to follow it.

    Raises:
        RemoteError: the Hub refuses, or cannot be reached; then the job may have begun, `hf jobs ps` says so.
    """
    request = job.request
    remote = connect(request.repo_id)

    def send() -> JobInfo:
        return remote.api.run_job(
            image=request.image,
            command=job.command,
            env=dict(job.env),
            secrets=dict(job.secrets),
            flavor=request.flavor,
            timeout=request.timeout,
            namespace=request.namespace,
        )

    return remote.attempt(send, max_tries=1)


def _consent(workspace: Workspace) -> str:
    """identities.csv without what generation does not need: when consent was given, and where the form is kept."""
    rows = {
        name: Identity(name, row.gender, row.consent_status, glasses=row.glasses)
        for name, row in workspace.identities().items()
    }
    if not any(row.consent_status == "granted" for row in rows.values()):
        raise ConsentError(f"{workspace.identities_path}: nobody has granted consent, there is nothing to generate")
    return format_identities(rows)


def _script(request: JobRequest, commit: str) -> str:
    """Refused fakes do not keep those that were made from being pushed; the job still ends with their exit code."""
    repo, branch = shlex.quote(request.repo_id), shlex.quote(request.branch)
    install = [
        "apt-get update -qq",
        f"apt-get install -qq -y --no-install-recommends {LIBRARIES}",
        f"pip install --quiet {shlex.quote(request.software)}",
    ]
    steps = [
        'printf %s "$IDENTITIES_CSV" >identities.csv',
        f"tooling pull {repo} --revision {commit} --identities identities.csv",
        "status=0",
        f"{shlex.join(['tooling', 'generate', *request.arguments])} || status=$?",
        "tooling verify",
        "tooling build",
        "tooling card",
        f"tooling push {repo} --revision {branch}",
        "exit $status",
    ]
    return "\n".join((install if request.software else []) + steps)
