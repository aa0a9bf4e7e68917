"""Published networks with weights set by hand so that what they make shows a face, and their files as published.

Random weights give noise, which the checks of a fake rightly refuse. Here most weights are random too, but a few lead
the picture through: MCNET moves its still, SimSwap blurs its crop and tints it by the identity, StyleGANEX enlarges
its crop and tints it by the edit. So a whole stage can be run without any published file, at any size of a network.
"""

from __future__ import annotations

import json
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from generation.generators.mcnet.keypoints import McnetDetector
from generation.generators.mcnet.network import McnetGenerator
from generation.generators.mcnet.pipeline import McnetDrive
from generation.generators.simswap.identity_encoder import SwapIdentity
from generation.generators.simswap.network import SwapGenerator
from generation.generators.simswap.parsing import FACE_CLASSES, FaceParsing
from generation.generators.simswap.pipeline import SimSwap
from generation.generators.stylegan3.network import StyleganGenerator
from generation.generators.stylegan3.pipeline import Stylegan3Faces
from generation.generators.stylegan3.text_pipeline import Text2Stylegan
from generation.generators.styleganex.network import StyleganexEditor
from generation.generators.styleganex.pipeline import StyleganexEdit
from generation.generators.weightfree.faces import WeightfreeFaces
from generation.generators.weightfree.portrait.space import FaceSpace

RGB = range(3)
OPTS = {
    "encoder_type": "GradualStyleEncoder",
    "input_nc": 3,
    "output_size": 1024,
    "use_skip": True,
    "use_att": 1,
    "skip_max_layer": 7,
    "start_from_latent_avg": True,
    "learn_in_w": False,
    "toonify_weights": None,
    "lr": 1e-4,
}


TINY_MCNET: dict[str, Any] = {
    "num_keypoints": 3,
    "image_px": 128,
    "base": 8,
    "most": 32,
    "motion_base": 8,
    "motion_most": 16,
    "memory_channels": 16,
    "memory_px": 8,
}
TINY_STYLEGAN: dict[str, Any] = {
    "z_dim": 16,
    "w_dim": 16,
    "img_resolution": 32,
    "num_layers": 4,
    "channel_base": 128,
    "channel_max": 8,
}
LATENT = 16  # values of a tiny identity


def tiny_mcnet(seed: int = 0) -> McnetGenerator:
    torch.manual_seed(seed)
    network: McnetGenerator = McnetGenerator(**TINY_MCNET)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, 0, 0.1)
    nn.init.constant_(network.mbUnit.styleconv.weight, 0.5)
    network.eval().requires_grad_(False)
    return network


def tiny_detector(seed: int = 0) -> McnetDetector:
    torch.manual_seed(seed)
    detector: McnetDetector = McnetDetector(TINY_MCNET["num_keypoints"], 8, 16)
    detector.eval().requires_grad_(False)
    return detector


def tiny_swap(**settings: Any) -> Any:
    torch.manual_seed(0)
    network = SwapGenerator(**{"channels": (8, 12, 16, 24), "num_blocks": 2, "latent_size": LATENT, **settings})
    return _with_statistics(network)


def tiny_identity() -> Any:
    torch.manual_seed(1)
    return _with_statistics(SwapIdentity(layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), latent_size=LATENT))


def tiny_parsing() -> Any:
    torch.manual_seed(2)
    return _with_statistics(FaceParsing(width=4))


def tiny_stylegan(**settings: Any) -> StyleganGenerator:
    torch.manual_seed(3)
    network: StyleganGenerator = StyleganGenerator(**{**TINY_STYLEGAN, **settings}).eval()
    return network


def publish_clip(folder: Path) -> list[Path]:
    """Tiny CLIP as a publisher would lay it out: weights, config, vocabulary, merges."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}), "utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = common | {"vocab_size": len(words), "eos_token_id": len(words) - 1, "max_position_embeddings": 32}
    vision = common | {"image_size": 32, "patch_size": 16, "projection_dim": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    torch.manual_seed(1)
    model = CLIPModel(config)
    state = model.state_dict() | {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    torch.save(state, folder / "pytorch_model.bin")
    config.save_pretrained(folder)
    return [folder / name for name in ("pytorch_model.bin", "config.json", "vocab.json", "merges.txt")]


def tiny_text2stylegan(clip_folder: Path) -> Text2Stylegan:
    _, config, vocabulary, merges = publish_clip(clip_folder)
    clip = CLIPModel(CLIPConfig.from_pretrained(config.parent))
    return Text2Stylegan(tiny_stylegan(), clip, CLIPTokenizer(str(vocabulary), str(merges)))


def save_tiny(name: str, folder: Path) -> Path:
    """Saves a generator that has weights, with tiny networks, as a conversion or a fit does."""
    torch.manual_seed(0)
    builders: dict[str, Any] = {
        "simswap": lambda: SimSwap(tiny_swap(), tiny_identity(), tiny_parsing()),
        "simswap-trained": lambda: SimSwap(tiny_swap(head="imagenet"), tiny_identity()),
        "mcnet": lambda: McnetDrive(tiny_detector(), tiny_mcnet()),
        "stylegan3": lambda: Stylegan3Faces(tiny_stylegan()),
        "text2stylegan": lambda: tiny_text2stylegan(folder.with_name(f"{folder.name}_clip")),
        "styleganex": lambda: StyleganexEdit(age=StyleganexEditor(width=4).eval()),
        "weightfree-faces": lambda: WeightfreeFaces(FaceSpace(crop_px=32), side_px=96),
    }
    builders[name]().save_pretrained(folder)
    return folder


def _with_statistics(network: Any) -> Any:
    """So that a norm that is forgotten shows."""
    for part in network.modules():
        if hasattr(part, "running_mean"):
            for value, low in (
                (part.running_mean, -0.2),
                (part.running_var, 0.7),
                (part.weight, 0.8),
                (part.bias, -0.2),
            ):
                value.data.uniform_(low, low + 0.4)
    return network.eval()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _zero(*parts: nn.Module) -> None:
    for part in parts:
        for parameter in part.parameters():
            nn.init.zeros_(parameter)


@torch.no_grad()
def show_the_still(generator: McnetGenerator, detector: McnetDetector) -> None:
    """The picture is the still, moved by all keypoints alike; keypoints are blobs of the picture's own colours."""
    dense: Any = generator.dense_motion_network
    _zero(detector.kp, detector.jacobian, dense.mask, dense.occlusion)
    steps = torch.arange(7) - 3.0
    blob = torch.exp(-(steps[:, None] ** 2 + steps**2) / 4)
    blob = blob / blob.sum() - 1 / 49
    colours = torch.randn((len(detector.kp.weight), 3), generator=seeded(0))
    detector.kp.weight[:, -3:] = 20 * colours[..., None, None] * blob  # the last channels are the picture itself
    torch.as_tensor(detector.jacobian.bias)[:] = torch.eye(2).flatten().repeat(len(colours))
    torch.as_tensor(dense.mask.bias)[0] = 2.5 + math.log(len(colours))  # nine tenths are the background's, which stays
    torch.as_tensor(dense.occlusion.bias)[:] = 4.0


@torch.no_grad()
def show_the_crop(network: SwapGenerator, seed: int = 0) -> None:
    """Three channels carry the picture down and up again; the blocks between tint it by the identity."""
    first: Any = network.first_layer
    _lead(first[1:3], 3)
    for name in network.down_names:
        _lead(network.get_submodule(name), 2)
    for name in network.up_names:
        up: Any = network.get_submodule(name)
        _lead(up[1:], 1)
    strength = 0.05 / len(network.BottleNeck)
    blocks: Any = network.BottleNeck
    for block in blocks:
        linear = block.style2.linear
        num = len(linear.bias) // 2
        size = linear.weight.shape[1]
        for channel in RGB:
            nn.init.zeros_(linear.weight[channel])
            linear.bias[channel] = -1.0  # scales are one plus this
            linear.weight[num + channel] = strength * torch.randn(size, generator=seeded(seed + channel))
            linear.bias[num + channel] = 0.0
    last: Any = network.last_layer[1]
    _zero(last)
    for channel in RGB:
        # [0, 1] -> about what the head's tanh turns into it again
        last.weight[channel, channel, 3, 3] = 2.6
        last.bias[channel] = -1.3


def _lead(layers: Any, taps: int) -> None:
    """Convolution and norm that hand on the first three channels: the middle pixel, or the mean of 2x2 for a stride."""
    conv, norm = layers[0], layers[1]
    for channel in RGB:
        nn.init.zeros_(conv.weight[channel])
        conv.bias[channel] = 0.0
        middle = conv.weight.shape[-1] // 2
        if taps == 2:
            conv.weight[channel, channel, middle : middle + 2, middle : middle + 2] = 0.25
        else:
            conv.weight[channel, channel, middle, middle] = 1.0
        norm.weight[channel], norm.bias[channel] = 1.0, 0.0
        norm.running_mean[channel], norm.running_var[channel] = 0.0, 1.0


@torch.no_grad()
def show_the_frame(network: StyleganexEditor, seed: int = 0) -> None:
    """The last fusion takes the picture into the generator, whose last but one picture layer shows and tints it."""
    encoder: Any = network.encoder
    decoder: Any = network.decoder
    fusion = encoder.fusion[6]
    conv, norm, slope = encoder.input_layer
    for channel in RGB:
        nn.init.zeros_(conv.weight[channel])
        conv.weight[channel, channel, 1, 1] = 1.0
        norm.weight[channel], norm.bias[channel] = 1.0, 0.0
        norm.running_mean[channel], norm.running_var[channel] = 0.0, 1.0
        slope.weight[channel] = 1.0
    num = len(fusion.fusion_out.bias)
    for channel in RGB:
        for sign, row in ((1.0, channel), (-1.0, channel + 3)):  # both signs, as the layer keeps one of them
            nn.init.zeros_(fusion.transform[0].weight[row])
            fusion.transform[0].weight[row, channel, 1, 1] = sign
            fusion.transform[0].bias[row] = 0.0
        nn.init.zeros_(fusion.fusion_out.weight[channel])
        fusion.fusion_out.weight[channel, num + channel, 1, 1] = 0.5 / 1.01
        fusion.fusion_out.weight[channel, num + channel + 3, 1, 1] = -0.5 / 1.01
        fusion.fusion_out.bias[channel] = 0.5  # [-1, 1] -> [0, 1]
    nn.init.zeros_(fusion.conv.weight)
    nn.init.constant_(fusion.conv.bias, 3.0)
    for number in (12, 13):
        layer = decoder.convs[number]
        for channel in RGB:
            nn.init.zeros_(layer.conv.weight[0, channel])
            layer.conv.weight[0, channel, channel, 1, 1] = 1.0  # its length is brought to 1
            layer.activate.bias[channel] = 0.0
            nn.init.zeros_(layer.conv.modulation.weight[channel])
            layer.conv.modulation.bias[channel] = 1.0
    for one in (decoder.to_rgb1, *decoder.to_rgbs):
        one.conv.weight.mul_(1e-3)
        nn.init.zeros_(one.bias)
    shown = decoder.to_rgbs[6]
    size = shown.conv.weight.shape[2]
    for channel in RGB:
        nn.init.zeros_(shown.conv.weight[0, channel])
        shown.conv.weight[0, channel, channel, 0, 0] = size**0.5
        tint = torch.randn(shown.conv.modulation.weight.shape[1], generator=seeded(seed + channel))
        shown.conv.modulation.weight[channel] = tint
        shown.conv.modulation.bias[channel] = 1.0
    nn.init.constant_(shown.bias, -1.0)
    # Of the style itself little, so that the tint is that of the edit: about a tenth for a factor of 2.
    for head in encoder.styles:
        head.linear.weight.mul_(0.01)
    edit = torch.randn(network.editing_w.shape[1], generator=seeded(seed + 9))
    network.editing_w[:] = 0.05 * edit


@torch.no_grad()
def name_all_skin(parsing: FaceParsing) -> None:
    """Every pixel is the face's, so that a swap is pasted as a square."""
    output: Any = parsing.conv_out
    output.conv.bn.bias[0] = 100.0
    output.conv_out.weight[:, 0] = 0.0
    output.conv_out.weight[FACE_CLASSES[0], 0] = 1.0


def mcnet_parts(generator: McnetGenerator, detector: McnetDetector) -> dict[str, Any]:
    """What the training saves: parallel prefixes, discriminator, optimizers, epoch."""
    moments = {0: {"step": 5, "exp_avg": torch.zeros(3)}}
    groups = [{"lr": 2e-4, "betas": (0.5, 0.999), "params": [0]}]
    parts: dict[str, Any] = {
        name: {f"module.{key}": value for key, value in model.state_dict().items()}
        for name, model in (("generator", generator), ("kp_detector", detector))
    }
    parts["discriminator"] = {"module.discs.1.conv.weight_orig": torch.zeros(4, 3, 4, 4)}
    for name in ("generator", "discriminator", "kp_detector"):
        parts[f"optimizer_{name}"] = {"state": moments, "param_groups": groups}
    return {**parts, "epoch": 99}


def styleganex_parts(network: StyleganexEditor, **opts: Any) -> dict[str, Any]:
    """What a publisher's file of one attribute holds."""
    state = {name: value for name, value in network.state_dict().items() if "." in name}
    editing = torch.stack([network.editing_w, -network.editing_w])
    parts = {"state_dict": state, "latent_avg": network.latent_avg, "editing_w": editing, "opts": {**OPTS, **opts}}
    return parts | {"discriminator": {"weight": torch.zeros(2)}}


def save_identity(path: Path, network: SwapIdentity, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Saves the network as a whole module of the published classes."""
    names = {"SwapIdentity": "ResNet", "IdentityBlock": "IRBlock", "Excitation": "SEBlock"}
    place = types.ModuleType("models.arcface_models")
    for name in names.values():
        setattr(place, name, type(name, (nn.Module,), {"__module__": place.__name__}))
    monkeypatch.setitem(sys.modules, "models", types.ModuleType("models"))
    monkeypatch.setitem(sys.modules, place.__name__, place)

    def copied(part: nn.Module) -> nn.Module:
        kind = names.get(type(part).__name__)
        new = getattr(place, kind)() if kind else part
        for name, child in part.named_children():
            new.add_module(name, copied(child))
        return new

    whole = copied(network)
    torch.save(nn.DataParallel(whole) if options.pop("is_parallel", False) else whole, path, **options)
