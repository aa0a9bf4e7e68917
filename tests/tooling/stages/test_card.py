"""The papers of a release: true to the workspace, with every question, valid, and without made-up answers."""

from __future__ import annotations

import io
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import cffconvert
import mlcroissant
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from homologous_deepfake import SUBSETS, make_features
from tooling.cli.app import app
from tooling.errors import InputError
from tooling.hub.cards import check_card
from tooling.release.folder import PAPERS, read_release
from tooling.stages import build as shards
from tooling.stages.card import run as card
from tooling.stages.card.papers import write as papers
from tooling.stages.card.papers.answers import FILE, known_questions, read_questions
from tooling.stages.push.checks import read_files
from tooling.workspace.layout import Workspace, open_workspace
from tooling.workspace.path_kinds import unknown_paths

NUM_QUESTIONS = {
    "motivation": 4,
    "composition": 16,
    "collection": 12,
    "preprocessing": 4,
    "uses": 6,
    "distribution": 7,
    "maintenance": 8,
}


@pytest.fixture(scope="module")
def built(small_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """A workspace of its own, and the release built from it, with card and papers."""
    root = tmp_path_factory.mktemp("papers")
    shutil.copytree(small_workspace.root, root / "workspace")
    workspace, out = open_workspace(root / "workspace"), root / "homologous_deepfake"
    shards.build_release(workspace, out)
    card.make_card(workspace, out)
    assert unknown_paths(workspace) == []
    return workspace, out


@pytest.fixture
def fresh(built: tuple[Workspace, Path], tmp_path: Path) -> tuple[Workspace, Path]:
    """A copy that a test may change."""
    for name, place in zip(("workspace", "release"), (built[0].root, built[1]), strict=True):
        shutil.copytree(place, tmp_path / name)
    return open_workspace(tmp_path / "workspace"), tmp_path / "release"


def write(workspace: Workspace, out: Path) -> None:
    papers.write_papers(workspace, out, read_release(out))


def answer(workspace: Workspace, answers: dict[tuple[str, str], str]) -> None:
    """Fills answers.toml in, as a maintainer does with an editor."""
    path, section, lines = workspace.root / FILE, "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        section = line[1:-1] if line.startswith("[") else section
        key = (section, line.partition(" = ")[0])
        lines.append(f"{key[1]} = {json.dumps(answers[key])}" if key in answers else line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_datasheet_has_all_questions_of_its_seven_sections(built: tuple[Workspace, Path]) -> None:
    assert {section: len(questions) for section, questions in read_questions().items()} == NUM_QUESTIONS
    text = (built[1] / "DATASHEET.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^## ", text, re.MULTILINE)) == 7
    assert len(re.findall(r"^\*\*.+\?.*\*\*$", text, re.MULTILINE)) == sum(NUM_QUESTIONS.values())
    assert "{{" not in text
    assert "{%" not in text


def test_what_the_workspace_knows_is_filled_in(built: tuple[Workspace, Path]) -> None:
    workspace, out = built
    text = (out / "DATASHEET.md").read_text(encoding="utf-8")
    num_files = sum(len(workspace.records(subset)) for subset in SUBSETS)
    assert f"{num_files} files of 12 people" in text
    assert "12 granted" in text
    assert "6 female, 6 male" in text
    assert "fold 0: 4, fold 1: 4, fold 2: 4" in text
    assert "| `edit_video` | 24 |" in text
    assert "`swap_video` by `weightfree-swap`" in text
    assert "were not audited" in text
    assert "synthetic" not in text


def test_synthetic_actors_are_not_described_as_filmed_people(fresh: tuple[Workspace, Path]) -> None:
    workspace, out = fresh
    table = workspace.identities_path
    table.write_text(table.read_text().replace("granted,,", 'granted,2000-01-01,"synthetic actor, no person"'))
    write(workspace, out)
    text = (out / "DATASHEET.md").read_text(encoding="utf-8")
    assert "it shows no real person" in text
    assert "were filmed" not in text


def test_missing_answers_are_requested_by_name_and_not_made_up(built: tuple[Workspace, Path]) -> None:
    workspace, out = built
    missing = papers.missing_answers(workspace)
    for name in ("[motivation] funding", "[collection] ethics", "[collection] involved", "[terms] governing_law"):
        assert name in missing
    everything = "".join(
        (out / name).read_text(encoding="utf-8") for name in ("DATASHEET.md", "TERMS.md", "TAKEDOWN.md")
    )
    for name in missing:
        if not name.startswith("[citation]"):
            assert f"`{name}`" in everything, name
    assert "**Draft.**" in everything
    citation = yaml.safe_load((out / "CITATION.cff").read_text(encoding="utf-8"))
    croissant = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    assert not {"date-released", "doi", "url", "license"} & citation.keys()
    assert not {"datePublished", "license", "url", "rai:dataSocialImpact"} & croissant.keys()


def test_answers_go_into_every_paper_and_are_no_longer_requested(fresh: tuple[Workspace, Path]) -> None:
    workspace, out = fresh
    given = {
        (section, name): f"Answer to {section} {name}."
        for section, names in known_questions().items()
        for name, (_, is_expected) in names.items()
        if is_expected
    }
    given |= {
        ("citation", "authors"): "Ada Beispiel; The Other Group",
        ("citation", "date_released"): "2026-12-01",
        ("citation", "url"): "https://example.org/data",
    }
    answer(workspace, given)
    toml = workspace.root / "workspace.toml"
    settings = 'licence = "cc-by-nc-4.0"\nlicence_link = "https://example.org/licence"\ncontact = "data@example.org"\n'
    toml.write_text(toml.read_text() + "\n[card]\n" + settings)
    workspace = open_workspace(workspace.root)
    write(workspace, out)
    assert card.missing_answers(workspace) == []
    texts = {name: (out / name).read_text(encoding="utf-8") for name in PAPERS}
    assert not [name for name, text in texts.items() if "To be answered" in text]
    assert "Answer to collection ethics." in texts["DATASHEET.md"]
    assert "Answer to terms liability." in texts["TERMS.md"]
    assert "data@example.org" in texts["TAKEDOWN.md"]
    assert "Answer to takedown response_time." in texts["TAKEDOWN.md"]
    citation = yaml.safe_load(texts["CITATION.cff"])
    assert [author["name"] for author in citation["authors"]] == ["Ada Beispiel", "The Other Group"]
    assert citation["license"] == "CC-BY-NC-4.0"
    cffconvert.Citation(texts["CITATION.cff"]).validate()
    assert not validated(out).errors
    assert not [warning for warning in validated(out).warnings if "recommended" in warning]


def test_answers_survive_the_next_card(fresh: tuple[Workspace, Path]) -> None:
    workspace, out = fresh
    answer(workspace, {("motivation", "funding"): "Nobody."})
    before = (workspace.root / FILE).read_bytes()
    write(workspace, out)
    assert (workspace.root / FILE).read_bytes() == before
    assert "Nobody." in (out / "DATASHEET.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[motivation]\nfunding = 3", r"\[motivation\] funding must be a string in quotes"),
        ("[motivation]\nfoundation = 'x'", r"\[motivation\] has no question 'foundation'; known: purpose"),
        ("[money]\nfunding = 'x'", "unknown section 'money'"),
        ("[motivation", "not readable as TOML"),
        ("[citation]\ndate_released = 'May'", "'May' is not a date; write it as YYYY-MM-DD"),
    ],
)
def test_wrong_answers_are_named(fresh: tuple[Workspace, Path], content: str, message: str) -> None:
    workspace, out = fresh
    (workspace.root / FILE).write_text(content)
    with pytest.raises(InputError, match=message):
        write(workspace, out)


def test_empty_answers_are_written_with_their_questions(built: tuple[Workspace, Path]) -> None:
    text = (built[0].root / FILE).read_text(encoding="utf-8")
    assert {value for table in tomllib.loads(text).values() for value in table.values()} == {""}
    assert (
        '# Who funded the creation of the dataset? If there is a grant, name grantor, grant and number.\nfunding = ""'
        in text
    )


def test_citation_is_valid(built: tuple[Workspace, Path]) -> None:
    cffconvert.Citation((built[1] / "CITATION.cff").read_text(encoding="utf-8")).validate()
    broken = (built[1] / "CITATION.cff").read_text(encoding="utf-8").replace("authors", "writers")
    with pytest.raises(Exception, match="authors"):
        cffconvert.Citation(broken).validate()


def validated(out: Path) -> Any:
    """Warnings and errors that mlcroissant finds."""
    return mlcroissant.Dataset(jsonld=out / "croissant.json").metadata.ctx.issues


def test_croissant_is_valid_and_of_version_1_1(built: tuple[Workspace, Path]) -> None:
    dataset = mlcroissant.Dataset(jsonld=built[1] / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert dataset.metadata.ctx.is_v1_1()
    assert dataset.metadata.data_use_cases
    assert dataset.metadata.personal_sensitive_information
    assert {record_set.name for record_set in dataset.metadata.record_sets} == {*SUBSETS, "metadata"}


@pytest.mark.parametrize("config", SUBSETS)
def test_croissant_reads_the_release_that_it_describes(built: tuple[Workspace, Path], config: str) -> None:
    workspace, out = built
    dataset = mlcroissant.Dataset(jsonld=out / "croissant.json")
    records = list(dataset.records(config))
    assert len(records) == len(workspace.records(config))
    record = records[0]
    columns = {name.rpartition("/")[2] if "identity_pair" not in name else "identity_pair" for name in record}
    assert columns == {*make_features(config), "split"}
    sample = workspace.records(config)[record[f"{config}/sample_id"].decode()]
    assert record[f"{config}/split"].decode() in ("train", "validation", "test")
    assert record[f"{config}/sha256"].decode() == sample.sha256
    media = record[f"{config}/{SUBSETS[config].media}"]
    if SUBSETS[config].media == "video":
        assert media == workspace.path(sample.path).read_bytes()
        assert np.shape(record[f"{config}/boxes"]) == (sample.num_frames, 4)
        assert np.shape([list(points) for points in record[f"{config}/landmarks"]]) == (sample.num_frames, 5, 2)
    else:
        assert isinstance(media, Image.Image)
        assert media.tobytes() == Image.open(io.BytesIO(workspace.path(sample.path).read_bytes())).tobytes()


def test_card_links_every_paper_and_carries_the_gate(built: tuple[Workspace, Path]) -> None:
    out = built[1]
    text = (out / "README.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in text for name in PAPERS)
    header = yaml.safe_load(text.split("---\n")[1])
    assert "TERMS.md" in header["extra_gated_prompt"]
    assert header["extra_gated_fields"]["Country"] == "country"
    assert check_card(text) == {"errors": [], "warnings": []}
    links = re.findall(r"\]\((?!http|#)([^)#]+)", "".join((out / name).read_text() for name in PAPERS[:3]))
    assert links
    assert all((out / link).is_file() for link in links)


def test_push_sends_the_papers(built: tuple[Workspace, Path]) -> None:
    _, files = read_files(built[1], lambda *step: None)
    assert set(PAPERS) <= files.keys()
    assert all(files[name].blob_sha1 for name in PAPERS)


def test_command_lists_what_is_missing_by_name(fresh: tuple[Workspace, Path]) -> None:
    workspace, out = fresh
    done = CliRunner().invoke(app, ["card", "--workspace", str(workspace.root), "--out", str(out)])
    assert done.exit_code == 0
    assert done.stdout.strip() == str(out / "README.md")
    assert "workspace.toml: [card] contact" in done.stderr
    assert "answers.toml: [collection] ethics" in done.stderr


def test_papers_are_the_same_twice(fresh: tuple[Workspace, Path]) -> None:
    workspace, out = fresh
    before = {name: (out / name).read_bytes() for name in PAPERS}
    write(workspace, out)
    assert {name: (out / name).read_bytes() for name in PAPERS} == before
