"""A command in a process of its own: forked from one that has imported what commands import, so that it starts fast."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from generation.generators.mcnet import convert as mcnet_converter
from generation.generators.registry import GENERATORS, GeneratorInfo
from generation.generators.simswap import convert as simswap_converter
from tests.generation.networks.published import tiny_detector, tiny_identity, tiny_mcnet
from tests.generation.weights import written
from tests.tooling.children import STEPS, TILE_PX, use_hub
from tooling.cli.app import main
from tooling.stages.push import read_back
from tooling.views import contact_sheet

PRELOADED = [
    "tests.flow.soak.child",
    "tooling.takedown.run",
    "tooling.stages.card.run",
    "tooling.stages.push.run",
    "tooling.stages.audit.run",
    "tooling.stages.verify.run",
    "tooling.stages.importing.run",
    "tooling.stages.generate.run",
    "tooling.views.report.page",
    "detection.scores",
    "detection.exports",
    "datasets",
]
BYTES = 6 << 30  # of memory that one command may ask for
SECONDS = 30  # of work, after which a command counts as hung


def forking_context() -> Any:
    """Starts processes from one that has all this imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def register_tiny_networks() -> None:
    """Makes converters take files of tiny networks, and adds the generator `written.NAME`."""
    for module, name, tiny in (
        (simswap_converter, "SwapIdentity", tiny_identity),
        (mcnet_converter, "McnetGenerator", tiny_mcnet),
        (mcnet_converter, "McnetDetector", tiny_detector),
    ):
        setattr(module, name, tiny)
    names = (f"{written.__name__}:{name}" for name in ("TinyPipeline", "convert_tiny"))
    pipeline, converter = names
    GENERATORS[written.NAME] = GeneratorInfo(
        "full_face_generation", pipeline, "LicenseRef-test", weights=written.PUBLISHED, converter=converter
    )


def run_in_child(
    folder: Path, arguments: list[str], hub: tuple[str, str] | None = None, kill_at: int = 0, counter: Any = None
) -> None:
    """Runs `tooling` in a folder; what it prints goes to the files out and err beside the folder.

    Args:
        folder: the current one; HOME, TMPDIR and caches are beside it.
        arguments: of the command line.
        hub: endpoint and token.
        kill_at: the number of the lasting step before which the process kills itself; 0 is never.
        counter: shared; counts lasting steps.
    """
    beside = folder.parent
    for name, number in (("out", 1), ("err", 2)):
        descriptor = os.open(beside / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    (beside / "tmp").mkdir(exist_ok=True)
    for name, value in {"HOME": "home", "HF_HOME": "home/hf", "XDG_CACHE_HOME": "home/cache", "TMPDIR": "tmp"}.items():
        os.environ[name] = str(beside / value)
    import tempfile

    tempfile.tempdir = None
    constants.HF_HUB_CACHE = str(beside / "home" / "hf" / "hub")
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    os.fsync = lambda fd: None  # no test ends the machine
    contact_sheet.TILE_PX = TILE_PX
    register_tiny_networks()
    if hub is not None:
        use_hub(*hub)
        read_back.check_first_row = lambda *arguments: None
    os.chdir(folder)
    sys.argv = ["tooling", *arguments]
    if counter is not None:
        _count_steps(counter, kill_at)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    with contextlib.suppress(SystemExit):
        code: Any = None
        try:
            main()
        except SystemExit as error:
            code = error.code
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
    if code:
        sys.exit(code)


def _count_steps(counter: Any, kill_at: int) -> None:
    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS or (event == "open" and any(letter in str(arguments[1]) for letter in "wax+")):
            counter.value += 1
            if counter.value == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
