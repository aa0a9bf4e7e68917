"""A built release on disk: what its shards hold, and the parts of the card's YAML that follow from them.

    RELEASE/
      README.md                                        the dataset card
      DATASHEET.md, TERMS.md, ...                      its papers, PAPERS
      data/{config}/{split}-00000-of-0000N.parquet     the shards
      data/SHA256SUMS                                  their digests, in the order of the configs (sha256sum -c)

Everything else is read from the shards' own footers, so that no second description can disagree with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from homologous_deepfake import METADATA, SUBSETS, schema_problem
from tooling.errors import InputError

CHECKSUMS = "SHA256SUMS"
# What reading a shard in which anything may be wrong raises, beside OSError.
DAMAGE = (pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, RecursionError)
PAPERS = ("DATASHEET.md", "TERMS.md", "TAKEDOWN.md", "CITATION.cff", "croissant.json", "root.pem")


@dataclass(frozen=True)
class Shard:
    """One Parquet file.

    Attributes:
        path: relative to the release, with forward slashes.
        sha256: hex digest of the file.
        num_examples: rows.
        num_bytes: size of the file.
    """

    path: str
    sha256: str
    num_examples: int
    num_bytes: int


@dataclass(frozen=True)
class ReleaseSplit:
    """One split of a config: num_bytes is the size of its uncompressed values, shards are in reading order."""

    num_examples: int
    num_bytes: int
    shards: tuple[Shard, ...]


@dataclass(frozen=True)
class ReleaseConfig:
    """One config: its columns and its splits in the order train, validation, test, crossing."""

    features: datasets.Features
    splits: dict[str, ReleaseSplit]


@dataclass(frozen=True)
class Release:
    """All configs of a release, in the order of the catalogue; the config `metadata` is the last."""

    configs: dict[str, ReleaseConfig]


def read_release(out: Path) -> Release:
    """Reads the configs, splits and shards of a release, from its checksums and the footers of its shards.

    Raises:
        InputError: there is no built release, or a shard is missing or damaged.
    """
    checksums = out / "data" / CHECKSUMS
    if not checksums.is_file():
        raise InputError(f"{out}: no built release; run `tooling build --out {out}`")
    shards: dict[str, dict[str, list[Shard]]] = {}
    num_bytes: dict[tuple[str, str], int] = {}
    features: dict[str, datasets.Features] = {}
    for name, digest in listed_shards(out):
        config, _, file_name = name.partition("/")
        split = file_name.partition("-")[0]
        path = out / "data" / name
        footer, features[config] = read_footer(path, config)
        shard = Shard(f"data/{name}", digest, footer.num_rows, path.stat().st_size)
        shards.setdefault(config, {}).setdefault(split, []).append(shard)
        groups = (footer.row_group(group) for group in range(footer.num_row_groups))
        num_bytes[config, split] = num_bytes.get((config, split), 0) + sum(group.total_byte_size for group in groups)
    return Release(
        {
            config: ReleaseConfig(
                features[config],
                {
                    split: ReleaseSplit(
                        sum(shard.num_examples for shard in found), num_bytes[config, split], tuple(found)
                    )
                    for split, found in splits.items()
                },
            )
            for config, splits in shards.items()
        }
    )


def dataset_card_configs(release: Release) -> dict[str, Any]:
    """The card's YAML keys `configs` and `dataset_info`.

    Both are needed: the first names the files of each split, the second types the columns even where a tool dropped
    the types that the shards carry.
    """
    configs, infos = [], []
    for name, config in release.configs.items():
        files = [{"split": split, "path": f"data/{name}/{split}-*"} for split in config.splits]
        configs.append({"config_name": name, "data_files": files})
        splits = [
            {"name": split, "num_bytes": found.num_bytes, "num_examples": found.num_examples}
            for split, found in config.splits.items()
        ]
        infos.append(
            {
                "config_name": name,
                "features": _rename_lists(config.features._to_yaml_list(), "list", "sequence"),
                "splits": splits,
                "download_size": sum(s.num_bytes for found in config.splits.values() for s in found.shards),
                "dataset_size": sum(found.num_bytes for found in config.splits.values()),
            }
        )
    return {"configs": configs, "dataset_info": infos}


def arrow_schema(features: datasets.Features) -> pa.Schema:
    """Arrow schema that carries the columns' types for datasets 3.6, 4 and 5.

    datasets 4 and later write lists as `List`, which 3.6 does not know; all of them read `Sequence`.
    """
    typed = json.dumps({"info": {"features": _retype_lists(features.to_dict())}})
    return features.arrow_schema.with_metadata({"huggingface": typed})


def _retype_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "Sequence" if (key, inner) == ("_type", "List") else _retype_lists(inner)
            for key, inner in value.items()
        }
    return [_retype_lists(inner) for inner in value] if isinstance(value, list) else value


def _rename_lists(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {new if key == old else key: _rename_lists(inner, old, new) for key, inner in value.items()}
    return [_rename_lists(inner, old, new) for inner in value] if isinstance(value, list) else value


def listed_shards(out: Path) -> Iterator[tuple[str, str]]:
    """Name below data/, and digest, of each shard that a release's checksums list; none lies elsewhere.

    Raises:
        InputError: the list is damaged.
    """
    path = out / "data" / CHECKSUMS
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        config, _, file_name = name.partition("/")
        if config not in (*SUBSETS, METADATA) or not re.fullmatch(r"\w+-[\w-]+\.parquet", file_name, re.ASCII):
            raise InputError(f"{path}: has a line that names no shard, {line[:80]!r}; run `tooling build` again")
        yield name, digest


def read_footer(path: Path, config: str) -> tuple[Any, datasets.Features]:
    """Parquet's metadata of a shard, and its columns.

    Raises:
        InputError: the shard is missing or damaged, or has other columns than its config.
    """
    try:
        footer = pq.read_metadata(path)
        schema = footer.schema.to_arrow_schema()
        problem = schema_problem(config, schema)
        features = datasets.Features.from_arrow_schema(schema)  # from JSON, in which anything may be
    except (OSError, *DAMAGE) as error:
        raise InputError(f"{path}: missing or damaged; run `tooling build` again") from error
    if problem:
        raise InputError(f"{path}: {problem}; run `tooling build` again")
    return footer, features


def format_bytes(num_bytes: int) -> str:
    """A size in megabytes or gigabytes, for people."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
