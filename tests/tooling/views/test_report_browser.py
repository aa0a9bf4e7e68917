"""The report in a headless Chromium: it loads nothing, shows and plays everything, and needs no mouse."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from homologous_deepfake import SUBSETS
from tests.tooling.views.browser import Page, browser
from tests.tooling.views.hostile import HOSTILE, HOSTILE_NAME, note_findings
from tests.workspaces import add_file, make_workspace
from tooling.views.report.page import write_report
from tooling.workspace.audit_file import Audit, ProbeResult, records_digest, write_audit
from tooling.workspace.verification_file import Finding

pytestmark = pytest.mark.thorough

WIDE, NARROW = (1440, 900), (360, 780)
FOCUSABLE = "a[href], button, select, input, summary, [tabindex='0']"
PLAYING = "[...document.querySelectorAll('video')].filter(video => !video.paused && video.currentTime > 0)"
CONTRAST = """
(() => {
  const numbers = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => rgb.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, at) => sum + v * [.2126, .7152, .0722][at], 0);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || element.closest('script, style, svg, noscript, .skip') || !element.getClientRects().length) continue;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => x - y);
    if ((b + .05) / (a + .05) < 4.5) poor.push(element.tagName + '.' + element.className + ': ' + element.textContent);
  }
  return poor;
})()
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two people, with a hostile name, generator and finding, and an audit with cells of every kind."""
    workspace = make_workspace(tmp_path_factory.mktemp("browser") / "work", 0, 2, 2)
    add_file(workspace, f"GAN_images/{HOSTILE_NAME}.png", HOSTILE, {"prompt": HOSTILE}, seed=9)
    error = Finding("error", "marks", "swap_video/1_2.mp4", HOSTILE)
    note_findings(workspace, [error, Finding("note", "content", "raw_video/2.mp4", "small")])
    areas = {"box_jitter": 0.5, "border_pixels": 0.57, "blockiness": 0.65, "sharpness": 0.75, "dimensions": 0.99}
    probes = [
        ProbeResult(subset, probe, False, area, area - 0.1, 1.0, 2, 2, 0.55, area < 0.7)
        for subset in SUBSETS
        for probe, area in areas.items()
        if SUBSETS[subset].method != "real"
    ]
    probes.append(ProbeResult("GAN_images", "atoms", False, None, None, None, 2, 2, 0.55, True))
    write_audit(workspace, Audit(tuple(probes), HOSTILE, records_digest(workspace)))
    return write_report(workspace, tmp_path_factory.mktemp("page") / "report.html", num_workers=1)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def tab(chromium: Page) -> Iterator[Page]:
    """The tab; a test fails if the page complains or asks for anything meanwhile."""
    chromium.events.clear()
    yield chromium
    assert chromium.problems() == []


def show(
    tab: Page, report: Path, size: tuple[int, int] = WIDE, *, motion: str = "reduce", scheme: str = "light"
) -> None:
    tab.prefer(reduced_motion=motion, color_scheme=scheme)
    tab.resize(*size)
    tab.open(report)


def wait(tab: Page, script: str) -> None:
    """Waits until an expression is true."""
    for _ in range(1200):
        if tab.run(script):
            return
        time.sleep(0.05)
    pytest.fail(f"never true: {script}")


def test_nothing_is_requested_and_nothing_complains(tab: Page, report: Path) -> None:
    show(tab, report, motion="no-preference")
    tab.run("document.querySelector('#play-view[aria-pressed=false]')?.click()")
    tab.run("document.querySelector('.n3').scrollIntoView({behavior: 'instant'})")
    wait(tab, f"{PLAYING}.length >= 3")
    tab.run("document.getElementById('play-view').click()")
    wait(tab, "document.querySelectorAll('video').length === 0")
    assert tab.run("window.hit") is None
    assert (
        tab.run("performance.getEntriesByType('resource').filter(one => !/^(data|blob):/.test(one.name)).length") == 0
    )


def test_a_script_that_is_not_ours_cannot_run(tab: Page, report: Path) -> None:
    show(tab, report)
    tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.hit = 1\">')")
    tab.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hit = 2'}))")
    assert tab.run("new Promise(done => setTimeout(() => done(window.hit ?? 0), 200))") == 0
    assert any("Content Security Policy" in str(event) for event in tab.events)
    tab.events.clear()


def test_every_poster_decodes(tab: Page, report: Path) -> None:
    show(tab, report)
    sheets = "[...new Set([...document.querySelectorAll('.frame')].map(one => getComputedStyle(one).backgroundImage))]"
    sizes = tab.run(
        f"Promise.all({sheets}.map(async url => {{ const image = new Image(); image.src = url.slice(5, -2);"
        "await image.decode(); return [image.naturalWidth, image.naturalHeight]; }))"
    )
    assert len(sizes) >= 6
    assert all(min(size) >= 160 for size in sizes)
    assert tab.run("document.querySelectorAll('.frame.none').length") == 0


def test_clips_of_a_card_play_together_and_begin_again(tab: Page, report: Path) -> None:
    show(tab, report)
    assert tab.run("document.querySelectorAll('video').length") == 0  # less motion was asked for
    tab.run("document.querySelector('.n3 .reel').focus()")
    tab.press("Enter")
    wait(tab, f"{PLAYING}.length === 3")
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "true"
    assert tab.run("[...document.querySelectorAll('video')].every(video => video.muted && video.playsInline)")
    loops = "new Promise(done => document.querySelector('video').addEventListener('seeked', () => done(1)))"
    assert tab.run(loops) == 1
    times = tab.run("[...document.querySelectorAll('video')].map(video => video.currentTime)")
    assert max(times) - min(times) < 0.15
    tab.press("Enter")
    assert tab.run("document.querySelectorAll('video').length") == 0
    assert tab.run("document.activeElement.getAttribute('aria-pressed')") == "false"


def test_clips_play_under_the_pointer(tab: Page, report: Path) -> None:
    show(tab, report, motion="no-preference")
    tab.run("document.querySelector('#play-view[aria-pressed=true]')?.click()")
    tab.run("document.querySelector('.n3 .reel').scrollIntoView({block: 'center', behavior: 'instant'})")
    wait(tab, "document.querySelectorAll('video').length === 0")
    x, y = tab.run("(box => [box.x + 40, box.y + 40])(document.querySelector('.n3 .reel').getBoundingClientRect())")
    tab.point(x, y)
    wait(tab, f"{PLAYING}.length === 3")
    tab.point(5, 5)
    wait(tab, "document.querySelectorAll('video').length === 0")


def test_keyboard_reaches_everything(tab: Page, report: Path) -> None:
    show(tab, report)
    tab.run(
        f'window.seen = new Set(); window.wanted = [...document.querySelectorAll("{FOCUSABLE}")]'
        ".filter(one => one.checkVisibility() && one.type !== 'radio')"
    )
    tab.press("Tab")
    assert tab.run("document.activeElement.className") == "skip"
    assert tab.run("document.activeElement.getBoundingClientRect().top") >= 0
    for _ in range(200):
        tab.run("window.seen.add(document.activeElement)")
        assert tab.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
        tab.press("Tab")
        if tab.run("window.seen.has(document.activeElement) || document.activeElement === document.body"):
            break
    stops = tab.run("[...window.seen].filter(one => one.matches('.reel')).length")
    assert stops == tab.run("document.querySelectorAll('.cards').length")  # one for each grid
    for grid in range(stops):
        tab.run(f"document.querySelectorAll('.cards')[{grid}].querySelector('.reel').focus()")
        for key in ("Home", *["ArrowRight"] * 12):
            tab.press(key)
            tab.run("window.seen.add(document.activeElement)")
            tab.run("window.seen.add(document.activeElement.closest('.card').querySelector('summary'))")
    left = tab.run("window.wanted.filter(one => !window.seen.has(one)).map(one => one.outerHTML.slice(0, 120))")
    assert left == []


@pytest.mark.parametrize("width", [360, 390, 861, 1440])
def test_no_sideways_scrolling_and_no_layout_shift(tab: Page, report: Path, width: int) -> None:
    show(tab, report, (width, 800), motion="no-preference")
    for size in ("s", "m", "l"):
        tab.run(f"document.documentElement.dataset.size = '{size}'")
        assert tab.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert (
            tab.run(
                "Math.max(...[...document.querySelectorAll('.cards, .images, .plot, .scroll:has(.matrix)')]"
                ".map(one => one.scrollWidth - one.clientWidth))"
            )
            <= 0
        )
    show(tab, report, (width, 800), motion="no-preference")
    shift = tab.run(
        "new Promise(done => { let sum = 0; new PerformanceObserver(list => list.getEntries().forEach(one => "
        "{ sum += one.value; })).observe({type: 'layout-shift', buffered: true}); setTimeout(() => done(sum), 400); })"
    )
    assert shift < 0.001


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_text_has_enough_contrast(tab: Page, report: Path, size: tuple[int, int], scheme: str) -> None:
    show(tab, report, size, scheme=scheme)
    tab.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert tab.run(CONTRAST) == []


def test_pictures_and_findings_can_be_filtered(tab: Page, report: Path) -> None:
    show(tab, report)
    shown = "[...document.querySelectorAll('.card')].filter(one => !one.hidden).map(one => one.dataset.text)"
    enter(tab, "find-card", "swap 1_2")
    assert tab.run(shown) == ["swap_video/1_2 1 2"]
    assert tab.run("document.querySelector('#grid-4 .shown').textContent") == "1 of 2 shown"
    enter(tab, "find-card", "")
    tab.run("document.getElementById('only-findings').click()")
    assert [text.split()[0] for text in tab.run(shown)] == ["raw_video/2", "swap_video/1_2"]
    rows = "[...document.querySelectorAll('#finding-table tbody tr:not([hidden])')].map(one => one.dataset.severity)"
    assert tab.run(rows) == ["error", "note"]
    tab.run("document.querySelector('#finding-table thead button').click()")
    assert tab.run(rows) == ["note", "error"]
    enter(tab, "find-finding", "small")
    assert tab.run(rows) == ["note"]
    enter(tab, "find-finding", "")
    enter(tab, "kind", "marks")
    assert tab.run(rows) == ["error"]


def enter(tab: Page, field: str, text: str) -> None:
    """Types a text into a field."""
    one = f"document.getElementById({field!r})"
    tab.run(f"{one}.value = {text!r}, {one}.dispatchEvent(new Event('input'))")
