"""The report: what it says, that nothing in it can run or reach out, and its bounds."""

from __future__ import annotations

import io
import json
import re
import shutil
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from generation.media.reader import read_clip
from homologous_deepfake import SUBSETS
from tests.tooling.views.hostile import HOSTILE, HOSTILE_NAME, note_findings
from tests.workspaces import add_file, make_workspace
from tooling.errors import InputError, WorkspaceError
from tooling.settings import Settings
from tooling.stages import build as shards
from tooling.views.excerpts import SIDE_PX, encode
from tooling.views.report import grids as cards
from tooling.views.report import posters as media
from tooling.views.report.audit_matrix import lay_out_audit, outcome_of
from tooling.views.report.overview import read_overview
from tooling.views.report.page import write_report
from tooling.workspace.audit_file import Audit, ProbeResult, records_digest, write_audit
from tooling.workspace.layout import Workspace, create_workspace, open_workspace
from tooling.workspace.verification_file import Finding

FINDINGS = (
    Finding("note", "content", "raw_video/3.mp4", "the face: is small"),
    Finding("note", "content", "swap_video/1_2.mp4", "run `tooling generate` again"),
    Finding("error", "marks", "swap_video/1_2.mp4", HOSTILE),
)


ABOVE = ProbeResult("swap_video", "file_size", False, 0.71, 0.6, 0.8, 4, 4, 0.55, False)
PIXEL = replace(ABOVE, probe="mean_colour", is_pixel=True, limit=None, is_ok=True, auc=None, low=None, high=None)
FEW = replace(ABOVE, probe="gop", auc=0.62, low=0.3, high=0.9, is_ok=True, p_value=0.4)
GOOD = replace(ABOVE, subset="edit_video", auc=0.5, low=0.5, high=0.5, is_ok=True)
PROBES = (ABOVE, PIXEL, FEW, GOOD)


class Reader(HTMLParser):
    """Elements with their attributes, and the text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._open, self.text = tag, self.text + " "

    def handle_data(self, data: str) -> None:
        self.text += data if self._open not in ("script", "style") else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two men and two women with every subset, verified and audited; one file has a hostile name and generator."""
    workspace = make_workspace(tmp_path_factory.mktemp("report") / "<b>work & place", 2, 2, 3)
    add_file(workspace, f"GAN_images/{HOSTILE_NAME}.png", HOSTILE, {"prompt": HOSTILE}, seed=9)
    add_file(workspace, "swap_video/1_2.mp4", HOSTILE, {})
    note_findings(workspace, FINDINGS, stale="raw_video/4.mp4")
    write_audit(workspace, Audit(PROBES, HOSTILE, records_digest(workspace)))
    return workspace


@pytest.fixture(scope="module")
def page(full: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(full, tmp_path_factory.mktemp("page") / "report.html", num_workers=1)


@pytest.fixture(scope="module")
def read(page: Path) -> Reader:
    return Reader(page.read_text(encoding="utf-8"))


@pytest.fixture
def copied(full: Workspace, tmp_path: Path) -> Workspace:
    """A copy of `full` that a test may change."""
    shutil.copytree(full.root, tmp_path / "workspace")
    return open_workspace(tmp_path / "workspace")


@pytest.fixture
def bare(tmp_path: Path) -> Workspace:
    """A workspace in which nothing has been done."""
    return create_workspace(tmp_path / "bare", Settings())


def test_page_holds_all_that_it_shows(page: Path, read: Reader) -> None:
    text = page.read_text(encoding="utf-8")
    for _, attributes in read.elements:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    own = re.sub(r"base64,[\w+/=]+", "", text)
    assert not re.findall(r"url\((?!data:)|@import|fetch\(|XMLHttpRequest|WebSocket|sendBeacon|importScripts", own)
    policy = next(meta["content"] for meta in read.all("meta") if "http-equiv" in meta) or ""
    assert policy.startswith("default-src 'none'; img-src data:; media-src blob:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "style" not in {name for _, attributes in read.elements for name in attributes}


def test_nothing_from_the_data_becomes_markup(read: Reader) -> None:
    runs = [script for script in read.all("script") if script.get("type") != "application/octet-stream"]
    assert len(runs) == 1
    assert not [name for _, attributes in read.elements for name in attributes if name.startswith("on")]
    assert {"img", "iframe", "object", "embed", "form", "base"}.isdisjoint(tag for tag, _ in read.elements)
    assert len(read.all("b")) == 2 + 5  # workspace and version, five checks
    for text in (HOSTILE, HOSTILE_NAME, "<b>work & place"):
        assert text in read.text


def test_every_file_of_the_videos_has_its_picture(full: Workspace, read: Reader) -> None:
    shown = " ".join(card["data-text"] or "" for card in read.all("li") if "data-text" in card).split()
    for subset in SUBSETS:
        for name, record in full.records(subset).items():
            if record.fps is not None:
                assert name in shown
    labels = [button["aria-label"] for button in read.all("button") if button.get("class") == "reel"]
    assert "Play swap_video/1_2: target 1, source 2, result" in labels
    assert "Play edit_video/{age,hair}/1: target 1, age, hair" in labels
    posters = [span for span in read.all("span") if (span.get("class") or "").startswith("frame")]
    assert not [span for span in posters if span["class"] == "frame none"]
    clips = {script["id"] for script in read.all("script") if script.get("type")}
    assert {span["data-clip"] for span in posters if "data-clip" in span} == clips
    assert len(clips) == 4 * (2 + 1 + 1 + 1 + 2)  # clips whole and cut, crops, driven, swapped, two edits each


def test_a_face_that_several_cards_show_is_stored_once(full: Workspace) -> None:
    shots = cards.shots_of(cards.lay_out(read_overview(full, None)))
    assert len(shots) == len({(shot.path, shot.identity) for shot in shots}) == 28 + 4


def test_checks_findings_and_audit_are_told(full: Workspace, read: Reader) -> None:
    text = " ".join(read.text.split())
    num_files = sum(len(full.records(subset)) for subset in SUBSETS)
    assert "stop Verification 1 file has errors: 1 marks" in text
    assert "stop Shortcut audit 1 probe above the limit" in text
    assert f"OK Marks all {num_files} files carry a mark" in text
    assert "Probe swap_\u200bvideo edit_\u200bvideo" in text
    assert "file size ▲ shortcut .71 .60–.80 .50 gop ? may be chance .62 .30–.90 not tested" in text
    assert "mean colour too few people not tested" in text
    assert "All 4 results" in text
    assert "swap_video file size shortcut 0.71 (0.60 to 0.80)" in text
    assert "swap_video gop may be chance 0.62 (0.30 to 0.90), p 0.400" in text
    assert "swap_video mean colour (pixels) no limit too few people" in text
    assert "note content raw_video/3.mp4 the face: is small" in text
    assert "run tooling generate again" in text  # the backticks became an element
    assert "Face size of face_video: 4 files, from 104 to 107 px, median 106" in text
    assert "swap_video: 4 of 4" in text  # nearer to the source


def test_the_audit_is_a_matrix_of_probes_and_subsets() -> None:
    matrix = lay_out_audit(Audit(PROBES, "", ""))
    assert matrix.subsets == ("swap_video", "edit_video")
    assert [row.probe for row in matrix.limited] == ["file_size", "gop"]
    assert [row.probe for row in matrix.pixels] == ["mean_colour"]
    assert [row.cells[1] is None for row in (*matrix.limited, *matrix.pixels)] == [False, True, True]
    image = replace(PIXEL, subset="GAN_images", probe="atoms", limit=0.55)
    outcomes = ["shortcut", "no limit", "may be chance", "within limit", "not comparable"]
    assert [outcome_of(result) for result in (*PROBES, image)] == outcomes


@pytest.mark.parametrize(
    ("area", "text", "shade"),
    [(0.5, ".50", 0), (0.54, ".54", 0), (0.55, ".55", 1), (0.4, ".40", 2), (0.3, ".30", 3), (1.0, "1.00", 4)],
)
def test_an_area_is_shaded_by_its_distance_from_chance(area: float, text: str, shade: int) -> None:
    cell = lay_out_audit(Audit((replace(ABOVE, auc=area),), "", "")).limited[0].cells[0]
    assert cell is not None
    assert (cell.area, cell.shade, cell.interval) == (text, shade, ".60–.80")


def test_tables_say_what_their_heads_are_about_and_pictures_come_first(read: Reader) -> None:
    tags = [tag for tag, _ in read.elements]
    sections = [section["id"] for section in read.all("section") if "grid" not in (section.get("class") or "")]
    assert sections[:3] == ["overview", "pictures", "audit"]
    assert tags.index("table") > max(
        at for at, tag in enumerate(tags) if tag == "li" and "card" in str(read.elements[at])
    )
    assert {head.get("scope") for head in read.all("th")} == {"col", "row", "rowgroup"}
    assert len(read.all("caption")) == 2
    hidden = tags.index("caption", tags.index("caption") + 1)
    assert "details" in tags[:hidden][-8:]


def test_black_bars_are_told_by_person(copied: Workspace, tmp_path: Path) -> None:
    path = copied.records_path("raw_video")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[0]["results"]["bars"] = {"width": 0.4375, "height": 0.0}
    records[2]["results"]["bars"] = {"width": 0.0, "height": 0.0}  # the others are from before it was measured
    records[0]["inputs"] = {"1.mov": "0" * 64}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with mock.patch.object(media, "share_out", return_value=media.Sizes(64, 0)):
        page = write_report(open_workspace(copied.root), tmp_path / "r.html", num_workers=1)
    text = " ".join(Reader(page.read_text(encoding="utf-8")).text.split())
    assert "check Black bars in 1 of 4 clips, up to 44 % of the width" in text
    assert "raw_video/1.mp4 (1.mov): 44 % of the width" in text
    assert text.count("44 %") == 2


def test_state_of_each_file(full: Workspace) -> None:
    facts = read_overview(full, None)
    checks = {file.record.path: file.outcome for files in facts.files.values() for file in files}
    assert checks["raw_video/4.mp4"] == "stale"
    assert checks["swap_video/1_2.mp4"] == "error"
    assert checks["raw_video/3.mp4"] == "ok"
    assert facts.findings == [FINDINGS[2], *FINDINGS[:2]]  # errors first, then by path


def test_error_of_a_companion_is_shown_with_its_file(copied: Workspace, tmp_path: Path) -> None:
    damaged = Finding("error", "record", "tracks/1.json", "is missing; run its stage again")
    note_findings(copied, [damaged])
    overview = read_overview(copied, None)
    (crop,) = [file for file in overview.files["face_video"] if file.record.path == "face_video/1.mp4"]
    assert (crop.outcome, crop.findings) == ("error", (damaged,))
    text = write_report(copied, tmp_path / "r.html", num_workers=1).read_text(encoding="utf-8")
    assert "tracks/1.json: is missing; run its stage again" in Reader(text).text


def test_table_of_an_older_format_counts_as_not_verified_any_more(copied: Workspace, tmp_path: Path) -> None:
    row = {"path": "raw_video/1.mp4", "sha256": "0" * 64, "is_ok": True, "findings": ["note: x: y"]}
    pq.write_table(pa.Table.from_pylist([row]), copied.verification_path)
    overview = read_overview(copied, None)
    assert overview.unverified == "not verified any more, the checks have changed; run `tooling verify`"
    assert overview.findings == []
    assert {file.outcome for files in overview.files.values() for file in files} == {"unverified"}
    text = " ".join(
        Reader(write_report(copied, tmp_path / "r.html", num_workers=1).read_text(encoding="utf-8")).text.split()
    )
    assert "stop Verification not verified any more, the checks have changed; run tooling verify" in text


def test_same_workspace_gives_the_same_bytes(full: Workspace, page: Path, tmp_path: Path) -> None:
    again = write_report(full, tmp_path / "again.html", num_workers=1)
    assert again.read_bytes() == page.read_bytes()


def test_what_was_not_done_is_named_with_its_command(bare: Workspace, tmp_path: Path) -> None:
    text = " ".join(
        Reader(write_report(bare, tmp_path / "r.html", num_workers=1).read_text(encoding="utf-8")).text.split()
    )
    for line in (
        "not verified; run tooling verify",
        "Not audited; run tooling audit",
        "Not measured; run tooling verify",
        "run tooling report --since OWNER/NAME@REVISION",
        "This workspace has no finished file",
        "This workspace has no identities.csv",
    ):
        assert line in text


def test_unreadable_and_missing_files_do_not_stop_the_page(copied: Workspace, tmp_path: Path) -> None:
    copied.path("raw_video/1.mp4").write_bytes(b"no video")
    copied.path("GAN_images/000002.png").unlink()
    with mock.patch.object(media, "share_out", return_value=media.Sizes(64, 20_000)):
        page = write_report(copied, tmp_path / "r.html", num_workers=1)
    read = Reader(page.read_text(encoding="utf-8"))
    text = " ".join(read.text.split())
    assert "raw_video/1.mp4: cannot be read as video" in text
    assert "GAN_images: GAN_images/000002.png: recorded, but missing; run its stage again" in text
    assert str(copied.root) not in page.read_text(encoding="utf-8")


def test_changes_since_a_release(copied: Workspace, tmp_path: Path) -> None:
    shards.build_release(copied, tmp_path / "release")
    same = read_overview(copied, str(tmp_path / "release")).changes
    assert same is not None
    assert not same.diff.subsets
    add_file(copied, "swap_video/3_4.mp4", "another", {})
    add_file(copied, "GAN_images/000077.png", "weightfree-face", {"prompt": "x"}, seed=77)
    copied.forget("GAN_images", ["GAN_images/000001"])
    changed = read_overview(copied, str(tmp_path / "release")).changes
    assert changed is not None
    assert changed.diff.subsets["GAN_images"].added == ("GAN_images/000077",)
    assert changed.diff.subsets["GAN_images"].removed == ("GAN_images/000001",)
    assert list(changed.diff.subsets) == ["swap_video", "GAN_images"]


def test_report_stays_out_of_the_workspace(full: Workspace, tmp_path: Path) -> None:
    for out in (full.root / "report.html", tmp_path):
        with pytest.raises(InputError, match="name a file outside"):
            write_report(full, out)


def test_damaged_verification_is_named(copied: Workspace, tmp_path: Path) -> None:
    copied.verification_path.write_bytes(b"no table")
    with pytest.raises(WorkspaceError, match=r"verification.parquet: damaged .*run `tooling verify` again"):
        write_report(copied, tmp_path / "r.html")


def test_large_workspaces_are_sampled_with_their_findings(full: Workspace) -> None:
    facts = read_overview(full, None)
    with mock.patch.multiple(cards, MAX_CARDS=3, MAX_IMAGES=2):
        grids = cards.lay_out(facts)
    assert [len(grid.cards) for grid in grids] == [3, 3, 3, 3, 3, 2]
    assert "swap_video/1_2" in [card.title for card in grids[4].cards]
    assert (grids[4].num_all, grids[5].num_all) == (4, 4)


def test_bytes_are_shared_out_within_the_bound(full: Workspace) -> None:
    clip = full.records("raw_video")["raw_video/1"]
    image = next(iter(full.records("GAN_images").values()))
    whole = [cards.Shot(str(at), "1", clip) for at in range(700)] + [
        cards.Shot(str(at), "", image) for at in range(360)
    ]
    shares = media.share_out(whole)
    posters = 700 * SIDE_PX**2 + 360 * shares.image_px**2
    assert shares.clip_bytes > SIDE_PX**2 * 0.25  # still good enough to judge
    assert (700 * shares.clip_bytes + posters * media.POSTER_BYTES_PER_PX) * 4 / 3 <= media.MEDIA_BYTES <= 18_000_000
    assert media.share_out([]).clip_bytes <= media.MAX_CLIP_BYTES


def test_clip_takes_no_more_than_its_share(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), np.uint8))
    excerpt = encode(noise, Fraction(15), 10)
    assert media._fit(excerpt, Fraction(15), len(excerpt)) is excerpt
    sizes = []
    for most in (40_000, 12_000):
        content = media._fit(excerpt, Fraction(15), most)
        assert content is not None
        assert len(content) <= most
        (tmp_path / "clip.mp4").write_bytes(content)
        assert read_clip(tmp_path / "clip.mp4").shape == (30, 64, 64, 3)
        sizes.append(len(content))
    assert sizes[0] > sizes[1]
    assert media._fit(excerpt, Fraction(15), 500) is None


def test_colours_have_enough_contrast() -> None:
    """WCAG 2 AA, both themes: 4.5 for text, 3 for what is drawn."""
    style = (Path(media.__file__).parent / "page.css").read_text(encoding="utf-8")
    found = re.findall(r"--(\S+): light-dark\((#\w{6}), (#\w{6})\)", style)
    pairs = {name: (light, dark) for name, light, dark in found}
    texts = [
        (ink, ground)
        for ink in ("ink", "muted", "accent", "real", "fake", "good", "warn", "bad")
        for ground in ("ground", "surface")
    ]
    texts += [(name, f"{name}-ground") for name in ("good", "warn", "bad")] + [("muted", "raised"), ("ink", "raised")]
    texts += [("ink", f"{name}-ground") for name in ("good", "warn", "bad")] + [("ground", "accent")]
    texts += [("ink", f"shade{number}") for number in range(1, 5)]
    drawn = [("edge", "surface"), ("male", "surface"), ("female", "surface")]
    for wanted, names in ((4.5, texts), (3.0, drawn)):
        for ink, ground in names:
            for theme in (0, 1):
                assert contrast(pairs[ink][theme], pairs[ground][theme]) >= wanted, (ink, ground, theme)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2 of two colours, "#rrggbb"."""
    parts = np.array([[int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)] for colour in (one, other)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    dark, light = sorted(linear @ np.array([0.2126, 0.7152, 0.0722]))
    return float((light + 0.05) / (dark + 0.05))


def test_posters_of_many_files_go_into_several_sheets() -> None:
    shots = [SimpleNamespace(record=SimpleNamespace(subset="raw_video"), identity=None) for _ in range(60)]
    with closing(media._Sheets(shots, [(12, 8)] * 60)) as sheets:  # type: ignore[arg-type]
        places = {number: sheets.put(number, np.full((8, 12, 3), 4 * number, np.uint8)) for number in range(59, -1, -1)}
        made = sheets.encode(1_000_000)
    assert [(sheet.columns, sheet.rows) for sheet in made] == [(10, 3), (10, 3)]
    pictures = [np.asarray(Image.open(io.BytesIO(sheet.content)).convert("RGB")) for sheet in made]
    for number, place in places.items():
        middle = pictures[place.sheet][8 * place.row + 4, 12 * place.column + 6]
        assert np.abs(middle.astype(int) - 4 * number).max() <= 6
