"""Progress in a log: what the lines say, and that they come while a single step takes long."""

from __future__ import annotations

import threading
import time

import pytest

from tooling import console
from tooling.console import ProgressLines
from tooling.workspace.records import StageResult


class Log:
    """Lines of progress with a clock that the test sets."""

    def __init__(self, title: str, *, is_bytes: bool = False) -> None:
        self.lines: list[str] = []
        self.seconds = 0.0
        self.progress = ProgressLines(title, self.lines.append, is_bytes=is_bytes, clock=lambda: self.seconds)

    def now(self, seconds: float) -> str:
        """The line that is written at a time."""
        self.seconds = seconds
        self.progress.say_now()
        return self.lines[-1]


def test_each_refusal_begins_with_what_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    refused = {"a.png": "means 1.png, and so does a.png [2]; keep one", "b": "sources/b: is damaged", "c": "no"}
    console.put_result("import", StageResult(refused=refused), as_json=False)
    assert capsys.readouterr().err.splitlines() == [
        "error: a.png: means 1.png, and so does a.png [2]; keep one", "error: sources/b: is damaged", "error: c: no"
    ]  # fmt: skip


def test_lines_say_how_much_is_done_and_how_long_the_rest_takes() -> None:
    log = Log("GAN_images")
    assert log.now(20) == "GAN_images after 0:00:20"
    log.progress.show(0, 40, "fold 2: fitting to 3 people")
    assert log.lines[-1] == "GAN_images: 0 of 40"
    assert log.now(50) == "GAN_images: 0 of 40 after 0:00:50; fold 2: fitting to 3 people"
    log.progress.show(0, 40, "")  # the first image begins, and only from here on the speed is measured
    log.seconds = 60
    log.progress.show(10, 40, "GAN_images/000010")
    assert log.now(70) == "GAN_images: 10 of 40 after 0:01:10, about 0:01:00 left; GAN_images/000010"
    assert log.now(90) == "GAN_images: 10 of 40 after 0:01:30, about 0:02:00 left; GAN_images/000010"
    log.progress.show(40, 40, "GAN_images/000040")
    assert log.now(3700) == "GAN_images: 40 of 40 after 1:01:40; GAN_images/000040"
    log.progress.end()
    assert log.lines[-1] == "GAN_images: 40 of 40 in 1:01:40"


def test_files_that_were_kept_do_not_count_as_speed() -> None:
    log = Log("raw_video")
    log.progress.show(90, 100, "")
    log.seconds = 30
    log.progress.show(92, 100, "raw_video/92")
    assert log.now(30) == "raw_video: 92 of 100 after 0:00:30, about 0:02:00 left; raw_video/92"


def test_nothing_is_said_twice() -> None:
    for state, line in (((6, 6, ""), ["send: 6 of 6 bytes"]), ((0, 0, ""), [])):
        log = Log("send", is_bytes=True)
        log.progress.show(*state)
        log.progress.end()
        assert log.lines == line


def test_a_long_step_is_not_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress_bar("swap_video", line_seconds=0.001) as bar:
        bar(0, 3, "")
        said = ""
        while said.count("swap_video: 0 of 3 after 0:00:0") < 2:
            time.sleep(0.001)
            said += capsys.readouterr().err
        bar(3, 3, "swap_video/3_1")
    assert capsys.readouterr().err.splitlines()[-1].startswith("swap_video: 3 of 3 in 0:00:0")
    assert "progress" not in [thread.name for thread in threading.enumerate()]


def test_a_step_that_fails_says_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with console.progress_bar("verify") as bar:
            bar(0, 2, "")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert capsys.readouterr().err == "verify: 0 of 2\n"
    assert "progress" not in [thread.name for thread in threading.enumerate()]
