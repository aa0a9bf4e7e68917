"""Converters of StyleGAN3's pickles, and of CLIP beside one, into pipelines."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from generation.errors import WeightsError, one_line
from generation.generators.stylegan3.network import StyleganGenerator
from generation.generators.stylegan3.pipeline import Stylegan3Faces
from generation.generators.stylegan3.text_pipeline import Text2Stylegan
from generation.json_text import parse_json
from generation.weights.mapped import printable
from generation.weights.state import load_strict, state_dict
from generation.weights.stylegan_pickle import read_stylegan
from generation.weights.torch_file import read_torch

# Arguments of the published constructors, and what they may be at most; values beyond would fill the memory.
LARGEST: dict[str, float] = {
    "z_dim": 8192,
    "c_dim": 8192,
    "w_dim": 8192,
    "img_resolution": 8192,
    "img_channels": 64,
    "channel_base": 2**20,
    "channel_max": 8192,
    "num_layers": 64,
    "num_critical": 64,
    "first_cutoff": 4096,
    "first_stopband": 4096,
    "last_stopband_rel": 64,
    "margin_size": 256,
    "output_scale": 1e6,
    "num_fp16_res": 64,
    "conv_kernel": 15,
    "filter_size": 64,
    "lrelu_upsampling": 8,
    "conv_clamp": 1e9,
}
REQUIRED = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
FRACTIONAL = {"first_cutoff", "first_stopband", "last_stopband_rel", "output_scale", "conv_clamp", "lr_multiplier"}
OF_TRAINING = {"magnitude_ema_beta"}
OF_MAPPING = {"num_layers": "mapping_layers", "lr_multiplier": "lr_multiplier"}
OF_MAPPING_TRAINING = {"w_avg_beta"}
MAX_JSON_BYTES = 16 << 20


def convert_stylegan3(files: Sequence[Path]) -> Stylegan3Faces:
    """The pipeline of a published generator.

    Args:
        files: the pickle of any generator of StyleGAN3, configuration T or R.

    Raises:
        WeightsError: it is not such a pickle, or has an entry that is not on the list; the message names it.
    """
    (pickle,) = files
    return Stylegan3Faces(read_generator(pickle))


def convert_text2stylegan(files: Sequence[Path]) -> Text2Stylegan:
    """The pipeline of a published generator and CLIP.

    Args:
        files: the generator's pickle; CLIP's weights (.bin, or .safetensors), config.json, vocab.json and merges.txt,
            as transformers' CLIP models are published.

    Raises:
        WeightsError: a file is of another kind or does not fit.
    """
    pickle, weights, config, vocabulary, merges = files
    clip = read_clip(weights, config)
    return Text2Stylegan(read_generator(pickle), clip, read_tokenizer(vocabulary, merges))


def read_generator(path: Path) -> StyleganGenerator:
    """The averaged generator in a pickle, with its weights.

    Raises:
        WeightsError: it is not a StyleGAN3 pickle, or has an entry that is not on the list; the message names it.
    """
    published = read_stylegan(path)
    if published.class_name != "Generator":
        raise WeightsError(f"{path}: G_ema is a {published.class_name}, no Generator; name a StyleGAN3 pickle")
    settings = generator_settings(published.init_kwargs, file=str(path))
    try:
        network: StyleganGenerator = StyleganGenerator(**settings)
    except (ValueError, ZeroDivisionError, OverflowError, RuntimeError) as error:
        raise WeightsError(f"{path}: no network can be made with its settings ({error}); fetch it again") from error
    load_strict(network, published.state, file=str(path))
    return network


def generator_settings(arguments: Mapping[str, Any], *, file: str) -> dict[str, Any]:
    """Arguments of `StyleganGenerator` from those of the published constructor, which must all be known.

    Raises:
        WeightsError: an argument is missing, unknown, or impossible.
    """
    for name in REQUIRED:
        if name not in arguments:
            raise WeightsError(f"{file}: does not say its {name}; name a StyleGAN3 pickle")
    settings: dict[str, Any] = {}
    for name, value in arguments.items():
        if name == "use_radial_filters" and isinstance(value, bool):
            settings[name] = value
        elif name == "mapping_kwargs" and isinstance(value, dict):
            settings |= _mapping_settings(value, file)
        elif name in LARGEST:
            lowest = 0 if name in ("c_dim", "num_critical", "margin_size", "num_fp16_res") else 1
            is_none = value is None and name == "conv_clamp"
            settings[name] = None if is_none else _number(name, value, lowest, file)
        elif name not in OF_TRAINING:
            raise WeightsError(f"{file}: was made with {printable(name)}, which is not known here; use another file")
    return settings


def _mapping_settings(arguments: Mapping[str, Any], file: str) -> dict[str, Any]:
    settings = {}
    for name, value in arguments.items():
        if name in OF_MAPPING:
            settings[OF_MAPPING[name]] = _number(name, value, 1 if name == "num_layers" else 0, file)
        elif name not in OF_MAPPING_TRAINING:
            raise WeightsError(f"{file}: was made with mapping_kwargs {printable(str(name))}, which is not known here")
    return settings


def _number(name: str, value: Any, lowest: float, file: str) -> float:
    is_number = type(value) is int or (type(value) is float and name in FRACTIONAL)
    lowest = 0 if name in FRACTIONAL else lowest
    if not is_number or not lowest <= value <= LARGEST.get(name, 1.0) or (name in FRACTIONAL and value == 0):
        raise WeightsError(f"{file}: its {name} is {printable(str(value))}, which cannot be; fetch it again")
    return float(value) if name in FRACTIONAL else int(value)


def read_clip(weights: Path, config: Path) -> CLIPModel:
    """CLIP with its published weights.

    Raises:
        WeightsError: the files are of another model or do not fit each other.
    """
    described = _read_json(config)
    if described.get("model_type") != "clip":
        raise WeightsError(f"{config}: is not the config.json of a CLIP model; name that of {weights.name}")
    plain = {key: _plain(described.get(key, {})) for key in ("text_config", "vision_config")}
    try:
        model = CLIPModel(CLIPConfig(**plain, projection_dim=described.get("projection_dim", 512)))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = one_line(error, 100)
        raise WeightsError(f"{config}: no CLIP model can be made with it ({reason}); fetch it again") from error
    load_strict(model, _clip_state(weights), file=str(weights), allow_unexpected=("*.position_ids",))
    return model


def read_tokenizer(vocabulary: Path, merges: Path) -> CLIPTokenizer:
    """CLIP's tokenizer from its two tables.

    Raises:
        WeightsError: they are not such tables.
    """
    _read_json(vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copyfile(vocabulary, Path(folder) / "vocab.json")
        shutil.copyfile(merges, Path(folder) / "merges.txt")
        try:
            return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # the tokenizers library raises bare exceptions
            reason = one_line(error, 100)
            raise WeightsError(f"{vocabulary}, {merges}: no tables of CLIP's tokenizer ({reason})") from error


def _clip_state(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        return state_dict(read_torch(path), file=str(path))
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path}: is not a safetensors file ({error}); fetch it again") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise WeightsError(f"{path}: is larger than {MAX_JSON_BYTES:,} bytes; name the published file")
        value = parse_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read as JSON ({error}); fetch it again") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: is not a JSON object; fetch it again")
    return value


def _plain(described: Any) -> dict[str, Any]:
    """Sizes and the activation's name; nothing that names code or kernels to be fetched."""
    if not isinstance(described, dict):
        return {}
    sizes = {name: value for name, value in described.items() if type(value) in (int, float)}
    activation = described.get("hidden_act")
    return sizes | ({"hidden_act": activation} if type(activation) is str else {})
