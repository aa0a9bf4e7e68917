"""Sizes, rates and filters of StyleGAN3's layers (Karras et al. 2021, "Alias-Free Generative Adversarial Networks").

Every layer has a cutoff and a stopband that grow geometrically to those of the image. Filters are Kaiser-windowed low
passes; configuration R has jinc filters of two dimensions where it goes down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.signal
import scipy.special
from numpy.typing import NDArray

Filter = NDArray[np.float32]


@dataclass(frozen=True)
class SynthesisSettings:
    """How the synthesis network is made; the names are those of the published constructor's arguments.

    Attributes:
        num_layers: besides the input and the last layer, ToRGB.
        num_critical: last layers that use the whole band.
        first_cutoff, first_stopband: of the first layer, in periods over the image's width.
        last_stopband_rel: of the last layer, as a multiple of its cutoff.
        margin_size: pixels beyond the image on every side, at each layer's own rate.
        num_fp16_res: octaves below the image's rate in which layers may run in half precision.
        filter_size: taps at a factor of one.
        conv_clamp: largest absolute value after a non-linearity; None does not clamp.
    """

    w_dim: int = 512
    img_resolution: int = 1024
    img_channels: int = 3
    channel_base: int = 32768
    channel_max: int = 512
    num_layers: int = 14
    num_critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3
    margin_size: int = 10
    output_scale: float = 0.25
    num_fp16_res: int = 4
    conv_kernel: int = 3
    filter_size: int = 6
    lrelu_upsampling: int = 2
    use_radial_filters: bool = False
    conv_clamp: float | None = 256.0


@dataclass(frozen=True)
class Band:
    """What a layer's output holds: rates and frequencies in periods over the image's width, sizes in pixels."""

    rate: int
    size: int
    cutoff: float
    half_width: float
    channels: int


@dataclass(frozen=True)
class Resampling:
    """Up, non-linearity, down.

    Attributes:
        up, down: factors.
        padding: zeros before the first and behind the last sample, after they are put `up` apart; negative cuts.
        gain, slope: of the leaky rectifier between them.
        clamp: largest absolute value after it; None does not clamp.
    """

    up: int
    down: int
    padding: tuple[int, int]
    gain: float
    slope: float
    clamp: float | None


@dataclass(frozen=True)
class LayerGeometry:
    """One synthesis layer.

    Attributes:
        name: as in the published state dict.
        before, after: of its input and output.
        temporary_rate: at which its non-linearity works.
        up_taps, down_taps: lengths of its filters; 1 has none.
        is_radial: whether the down filter is one of two dimensions.
        is_half: whether half precision serves.
    """

    name: str
    before: Band
    after: Band
    is_torgb: bool
    is_critical: bool
    kernel: int
    temporary_rate: int
    up_taps: int
    down_taps: int
    is_radial: bool
    is_half: bool
    resampling: Resampling


def make_bands(settings: SynthesisSettings) -> list[Band]:
    """The outputs of layers 0 to `num_layers`; the first is that of the input too."""
    last = settings.num_layers
    last_cutoff = settings.img_resolution / 2
    last_stopband = last_cutoff * settings.last_stopband_rel
    bands = []
    for number in range(last + 1):
        exponent = min(number / (last - settings.num_critical), 1)
        cutoff = settings.first_cutoff * (last_cutoff / settings.first_cutoff) ** exponent
        stopband = settings.first_stopband * (last_stopband / settings.first_stopband) ** exponent
        rate = 2 ** math.ceil(math.log2(min(2 * stopband, settings.img_resolution)))
        size = settings.img_resolution if number >= last - 1 else rate + 2 * settings.margin_size
        channels = round(min(settings.channel_base / 2 / cutoff, settings.channel_max))
        bands.append(
            Band(
                rate,
                size,
                cutoff,
                max(stopband, rate / 2) - cutoff,
                settings.img_channels if number == last else channels,
            )
        )
    return bands


def make_layers(settings: SynthesisSettings, bands: Sequence[Band]) -> list[LayerGeometry]:
    """Layers 0 to `num_layers`, the last of which is ToRGB."""
    return [_layer(settings, bands, number) for number in range(len(bands))]


def _layer(settings: SynthesisSettings, bands: Sequence[Band], number: int) -> LayerGeometry:
    before, after = bands[max(number - 1, 0)], bands[number]
    is_torgb = number == len(bands) - 1
    is_critical = number >= len(bands) - 1 - settings.num_critical
    kernel = 1 if is_torgb else settings.conv_kernel
    rate = max(before.rate, after.rate) * (1 if is_torgb else settings.lrelu_upsampling)
    up, down = rate // before.rate, rate // after.rate
    up_taps, down_taps = (1 if factor == 1 or is_torgb else settings.filter_size * factor for factor in (up, down))
    total = (after.size - 1) * down + 1 - (before.size + kernel - 1) * up + up_taps + down_taps - 2
    low = (total + up) // 2
    return LayerGeometry(
        f"L{number}_{after.size}_{after.channels}",
        before,
        after,
        is_torgb,
        is_critical,
        kernel,
        rate,
        up_taps,
        down_taps,
        is_radial=settings.use_radial_filters and not is_critical,
        is_half=after.rate * 2**settings.num_fp16_res > settings.img_resolution,
        resampling=Resampling(
            up,
            down,
            (low, total - low),
            1.0 if is_torgb else math.sqrt(2),
            1.0 if is_torgb else 0.2,
            settings.conv_clamp,
        ),
    )


def up_filter(layer: LayerGeometry) -> Filter | None:
    """The low pass before the non-linearity, for the band of the layer's input; sum 1, float32 (taps,)."""
    return design_filter(layer.up_taps, layer.before, layer.temporary_rate)


def down_filter(layer: LayerGeometry) -> Filter | None:
    """The low pass after it, for the band of the output; sum 1, float32 (taps,) or (taps, taps)."""
    return design_filter(layer.down_taps, layer.after, layer.temporary_rate, is_radial=layer.is_radial)


def design_filter(taps: int, band: Band, rate: float, *, is_radial: bool = False) -> Filter | None:
    """A Kaiser-windowed low pass for signals of a rate; None for a single tap."""
    if taps == 1:
        return None
    width = 2 * band.half_width
    if not is_radial:
        return np.asarray(scipy.signal.firwin(taps, band.cutoff, width=width, fs=rate), np.float32)
    places = (np.arange(taps) - (taps - 1) / 2) / rate
    radius = np.hypot(*np.meshgrid(places, places))
    beta = scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, width / (rate / 2)))
    window = np.kaiser(taps, beta)
    jinc = scipy.special.j1(2 * np.pi * band.cutoff * radius) / (np.pi * radius)
    shaped = jinc * np.outer(window, window)
    return np.asarray(shaped / shaped.sum(), np.float32)
