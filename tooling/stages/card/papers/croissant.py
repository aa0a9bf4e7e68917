"""croissant.json: Croissant 1.1 metadata of a release, with the fields of its RAI vocabulary 1.0.

One FileSet and one RecordSet per config. Paths are relative to the file itself, so that it describes a downloaded
release. Types of columns come from the features in the shards.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import datasets

from homologous_deepfake import METADATA, SUBSETS
from tooling.release.folder import Release, ReleaseConfig
from tooling.stages.card.papers.answers import Answers
from tooling.stages.card.papers.citation import TITLE, authors_of, release_date
from tooling.stages.card.papers.datasheet import Section
from tooling.workspace.layout import Workspace

CONFORMS_TO = ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
TYPES = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float32": "cr:Float32",
    "float64": "cr:Float64",
}
RAI = {  # field -> the datasheet's entries that answer it
    "rai:dataCollection": (("collection", "acquisition"), ("collection", "mechanisms")),
    "rai:dataCollectionMissingData": (("composition", "missing"),),
    "rai:dataPreprocessingProtocol": (("preprocessing", "done"),),
    "rai:dataAnnotationProtocol": (("composition", "labels"),),
    "rai:dataBiases": (("composition", "subpopulations"), ("uses", "impact")),
    "rai:dataLimitations": (("composition", "errors"), ("uses", "not_for")),
    "rai:dataUseCases": (("motivation", "purpose"), ("uses", "other_tasks")),
    "rai:dataSocialImpact": (("collection", "impact"),),
    "rai:personalSensitiveInformation": (("composition", "sensitive"), ("composition", "identifiable")),
    "rai:dataReleaseMaintenancePlan": (("maintenance", "updates"), ("maintenance", "older_versions")),
}
DETECTOR = "MTCNN finds faces and landmarks; boxes are smoothed over time"


def make_croissant(workspace: Workspace, release: Release, answers: Answers, sections: list[Section]) -> dict[str, Any]:
    """The JSON-LD object. Properties without an answer are left out."""
    card = workspace.settings.card
    known = {
        (section.name, entry.key): entry.text
        for section in sections
        for entry in section.entries
        if not entry.is_missing and entry.text != "None given."
    }
    url = answers.given("citation", "url")
    content: dict[str, Any] = {
        "@context": json.loads(
            files("tooling.stages.card.papers").joinpath("croissant_context.json").read_text(encoding="utf-8")
        ),
        "@type": "sc:Dataset",
        "conformsTo": CONFORMS_TO,
        "name": "Homologous_deepfake",
        "description": known["motivation", "purpose"],
        "alternateName": TITLE,
        "version": card.version,
        "keywords": ["deepfake detection", "face swap", "expression driving", "face editing", "face generation"],
        "creator": [{"@type": "sc:Organization", "name": name} for name in authors_of(answers)],
        "datePublished": release_date(answers),
        "license": card.licence_link or (card.licence if card.licence != "other" else card.licence_name),
        "url": url,
        "citeAs": f"{'; '.join(authors_of(answers))}: {TITLE}, version {card.version}{f'. {url}' if url else ''}",
        "isLiveDataset": False,
    }
    for field, entries in RAI.items():
        content[field] = " ".join(" ".join(known[entry].split()) for entry in entries if entry in known)
    content["rai:machineAnnotationTools"] = DETECTOR
    content["distribution"] = [_file_set(name) for name in release.configs]
    content["recordSet"] = [_record_set(name, config) for name, config in release.configs.items()]
    return {key: value for key, value in content.items() if value != ""}


def _file_set(config: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{config}-shards",
        "name": f"{config}-shards",
        "description": f"Parquet shards of {config}.",
        "encodingFormat": "application/x-parquet",
        "includes": f"data/{config}/*.parquet",
    }


def _record_set(name: str, config: ReleaseConfig) -> dict[str, Any]:
    description = "The columns of all subsets, without media." if name == METADATA else SUBSETS[name].description
    split = {
        "@type": "cr:Field",
        "@id": f"{name}/split",
        "name": "split",
        "description": "train, validation, test, or crossing.",
        "dataType": "sc:Text",
        "source": {
            "fileSet": {"@id": f"{name}-shards"},
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": rf"data/{name}/([a-z]+)-.+\.parquet$"},
        },
    }
    fields = [_field(name, column, feature) for column, feature in config.features.items()]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "field": [split, *fields]}


def _field(config: str, column: str, feature: Any) -> dict[str, Any]:
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{config}/{column}", "name": column}
    source = {"fileSet": {"@id": f"{config}-shards"}, "extract": {"column": column}}
    if isinstance(feature, dict):
        parts = [
            {
                "@type": "cr:Field",
                "@id": f"{config}/{column}/{part}",
                "name": part,
                "dataType": "sc:Text",
                "source": {**source, "transform": {"jsonPath": part}},
            }
            for part in feature
        ]
        return {**field, "subField": parts}
    if isinstance(feature, (datasets.Image, datasets.Video)):
        kind = "sc:ImageObject" if isinstance(feature, datasets.Image) else "sc:VideoObject"
        return {**field, "dataType": kind, "source": {**source, "transform": {"jsonPath": "bytes"}}}
    if isinstance(feature, datasets.ClassLabel):
        names = ", ".join(f"{number} = {name}" for number, name in enumerate(feature.names))
        return {**field, "description": names, "dataType": "cr:Int64", "source": source}
    sizes = []
    while hasattr(feature, "feature"):  # lists in lists
        sizes.append(feature.length)
        feature = feature.feature
    field |= {"dataType": TYPES[feature.dtype], "source": source}
    return field | ({"isArray": True, "arrayShape": ",".join(map(str, sizes))} if sizes else {})
