"""The generator of StyleGAN3, configurations T and R.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks".

Names in the state dict are those of the published checkpoints. Weights are kept in float32; `to` with a half-precision
dtype sets in which dtype the layers work that bear it, and only on a GPU.
"""

from __future__ import annotations

import math
from typing import Any, Self, cast

import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from generation.generators.stylegan3.filtering import filtered_leaky_relu
from generation.generators.stylegan3.geometry import (
    Band,
    LayerGeometry,
    SynthesisSettings,
    down_filter,
    make_bands,
    make_layers,
    up_filter,
)

HALF = (torch.float16, torch.bfloat16)
EPSILON = 1e-8


class StyleganGenerator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Mapping and synthesis.

    Args:
        z_dim, c_dim, w_dim: sizes of latent, label and intermediate latent; c_dim 0 takes no label.
        mapping_layers, lr_multiplier: of the mapping network.
        others: see `SynthesisSettings`.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        z_dim: int = 512,
        c_dim: int = 0,
        w_dim: int = 512,
        img_resolution: int = 1024,
        img_channels: int = 3,
        mapping_layers: int = 2,
        lr_multiplier: float = 0.01,
        channel_base: int = 32768,
        channel_max: int = 512,
        num_layers: int = 14,
        num_critical: int = 2,
        first_cutoff: float = 2.0,
        first_stopband: float = 2**2.1,
        last_stopband_rel: float = 2**0.3,
        margin_size: int = 10,
        output_scale: float = 0.25,
        num_fp16_res: int = 4,
        conv_kernel: int = 3,
        filter_size: int = 6,
        lrelu_upsampling: int = 2,
        use_radial_filters: bool = False,
        conv_clamp: float | None = 256.0,
    ) -> None:
        super().__init__()
        settings = SynthesisSettings(
            w_dim=w_dim,
            img_resolution=img_resolution,
            img_channels=img_channels,
            channel_base=channel_base,
            channel_max=channel_max,
            num_layers=num_layers,
            num_critical=num_critical,
            first_cutoff=first_cutoff,
            first_stopband=first_stopband,
            last_stopband_rel=last_stopband_rel,
            margin_size=margin_size,
            output_scale=output_scale,
            num_fp16_res=num_fp16_res,
            conv_kernel=conv_kernel,
            filter_size=filter_size,
            lrelu_upsampling=lrelu_upsampling,
            use_radial_filters=use_radial_filters,
            conv_clamp=conv_clamp,
        )
        self.synthesis = SynthesisNetwork(settings)
        self.mapping = MappingNetwork((z_dim, c_dim, w_dim), mapping_layers, lr_multiplier, self.synthesis.num_ws)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """As torch's, but a half-precision dtype is that of the layers' work and leaves the weights in float32."""
        dtype = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.dtype)), None)
        if dtype is not None:
            self.synthesis.layer_dtype = dtype
        if dtype in HALF:
            args = tuple(torch.float32 if value is dtype else value for value in args)
            kwargs = {name: torch.float32 if value is dtype else value for name, value in kwargs.items()}
        # Not that of diffusers, which warns of every dtype.
        nn.Module.to(self, *args, **kwargs)
        return self

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        transform: Tensor | None = None,
    ) -> Tensor:
        """Images (N, 3, S, S), float32, nominally [-1, 1] and not clamped.

        Args:
            z: (N, z_dim), normal noise.
            c: (N, c_dim), a one-hot label; not needed where c_dim is 0.
            psi: 1 is no truncation, 0 is the average image.
            cutoff: how many of the `num_ws` latents are truncated; None is all.
            transform: see `SynthesisNetwork.forward`.
        """
        images: Tensor = self.synthesis(self.mapping(z, c, psi=psi, cutoff=cutoff), transform=transform)
        return images


class MappingNetwork(nn.Module):
    """From z to w; float32 throughout.

    Buffers:
        w_avg: (w_dim,), the average w of the training.
    """

    w_avg: Tensor

    def __init__(self, sizes: tuple[int, int, int], num_layers: int, lr_multiplier: float, num_ws: int) -> None:
        super().__init__()
        z_dim, self.c_dim, w_dim = sizes
        self.num_ws, self.num_layers = num_ws, num_layers
        if self.c_dim:
            self.embed = FullyConnected(self.c_dim, w_dim)
        widths = [z_dim + (w_dim if self.c_dim else 0)] + [w_dim] * num_layers
        for number in range(num_layers):
            layer = FullyConnected(widths[number], w_dim, lr_multiplier=lr_multiplier, is_rectified=True)
            self.add_module(f"fc{number}", layer)
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor, c: Tensor | None = None, *, psi: float = 1.0, cutoff: int | None = None) -> Tensor:
        """ws (N, num_ws, w_dim), float32; arguments as `StyleganGenerator.forward`."""
        x = _unit_square(z.float())
        if self.c_dim:
            label = torch.zeros(len(z), self.c_dim, device=z.device) if c is None else c.float()
            x = torch.cat([x, _unit_square(self.embed(label))], 1)
        for number in range(self.num_layers):
            x = self.get_submodule(f"fc{number}")(x)
        ws = x[:, None].repeat(1, self.num_ws, 1)
        if psi == 1:
            return ws
        average = self.w_avg.float()
        return torch.cat([average.lerp(ws[:, :cutoff], psi), ws[:, ws[:, :cutoff].shape[1] :]], 1)


class SynthesisNetwork(nn.Module):
    """From w to the image.

    Attributes:
        layer_dtype: in which layers work that bear half precision, on a GPU.
        num_ws: one for the input and one for each layer.
    """

    def __init__(self, settings: SynthesisSettings) -> None:
        super().__init__()
        bands = make_bands(settings)
        layers = make_layers(settings, bands)
        self.layer_dtype = torch.float32
        self.output_scale = settings.output_scale
        self.num_ws = settings.num_layers + 2
        self.input = SynthesisInput(settings.w_dim, bands[0])
        self.layer_names = [layer.name for layer in layers]
        for layer in layers:
            self.add_module(layer.name, SynthesisLayer(settings.w_dim, layer))

    def forward(self, ws: Tensor, *, transform: Tensor | None = None) -> Tensor:
        """Images (N, 3, S, S), float32, nominally [-1, 1].

        Args:
            ws: (N, num_ws, w_dim).
            transform: (3, 3), the inverse of what is done to the picture, places in widths from its middle; None takes
                the stored one, which is the identity.
        """
        latents = ws.float().unbind(1)
        x = self.input(latents[0], transform)
        for name, w in zip(self.layer_names, latents[1:], strict=True):
            layer = cast(SynthesisLayer, self.get_submodule(name))
            is_half = layer.geometry.is_half and x.device.type == "cuda"
            x = layer(x.to(self.layer_dtype if is_half else torch.float32), w)
        images: Tensor = x * self.output_scale
        return images.float().contiguous()


class SynthesisInput(nn.Module):
    """Waves of fixed frequencies, moved and turned by w.

    Buffers:
        freqs: (C, 2), in periods over the image's width, x and y; phases: (C,), in periods.
        transform: (3, 3), see `SynthesisNetwork.forward`.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, w_dim: int, band: Band) -> None:
        super().__init__()
        self.band = band
        self.weight = nn.Parameter(torch.randn(band.channels, band.channels))
        self.affine = FullyConnected(w_dim, 4)
        with torch.no_grad():
            self.affine.weight.zero_()
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
        drawn = torch.randn(band.channels, 2)
        radius = drawn.square().sum(1, keepdim=True).sqrt()
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", drawn / (radius * radius.square().exp().pow(0.25)) * band.cutoff)
        self.register_buffer("phases", torch.rand(band.channels) - 0.5)

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """Features (N, C, H, W), float32, channels last."""
        moves = self._moves(self.affine(w), self.transform if transform is None else transform)
        original = self.freqs.float()
        phases = self.phases.float() + moves[:, :2, 2] @ original.T
        freqs = original @ moves[:, :2, :2]
        norms = freqs.square().sum(2).sqrt()
        band = self.band
        amplitudes = (1 - (norms - band.cutoff) / (band.rate / 2 - band.cutoff)).clamp(0, 1)
        line = (torch.arange(band.size, device=w.device) + 0.5 - band.size / 2) / band.rate
        # The turn at place (x, y) of the grid, in periods: (N, H, W, C).
        turns = (line[:, None] * freqs[:, None, :, 0])[:, None] + (line[:, None] * freqs[:, None, :, 1])[:, :, None]
        features = torch.sin(2 * math.pi * (turns + phases[:, None, None])) * amplitudes[:, None, None]
        weight = self.weight.float() / math.sqrt(band.channels)
        return (features @ weight.T).permute(0, 3, 1, 2)

    @staticmethod
    def _moves(motion: Tensor, transform: Tensor) -> Tensor:
        """Rotation, translation and the user's transform as matrices (N, 3, 3), from the motion (N, 4) of w."""
        motion = motion / motion[:, :2].norm(dim=1, keepdim=True)
        cosine, sine, x, y = motion.unbind(1)
        zero, one = torch.zeros_like(x), torch.ones_like(x)
        rotation = torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], 1).view(-1, 3, 3)
        translation = torch.stack([one, zero, -x, zero, one, -y, zero, zero, one], 1).view(-1, 3, 3)
        return rotation @ translation @ transform.to(motion)


class SynthesisLayer(nn.Module):
    """Modulated convolution and filtered leaky rectifier.

    The styles scale the input and the demodulation scales the output, so that a batch shares one convolution.

    Buffers:
        magnitude_ema: (), mean square of the layer's input in training.
        up_filter, down_filter: see `generation.generators.stylegan3.geometry`; absent without filter.
    """

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, w_dim: int, geometry: LayerGeometry) -> None:
        super().__init__()
        self.geometry = geometry
        channels_in, channels_out, kernel = geometry.before.channels, geometry.after.channels, geometry.kernel
        self.affine = FullyConnected(w_dim, channels_in, bias=1.0)
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.register_buffer("magnitude_ema", torch.ones(()))
        for name, taps in (("up_filter", up_filter(geometry)), ("down_filter", down_filter(geometry))):
            self.register_buffer(name, None if taps is None else torch.from_numpy(taps))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """(N, C', H', W') from (N, C, H, W) and w (N, w_dim), in the dtype of x, channels last."""
        styles = self.affine(w)
        weight = self.weight.float()
        gain = self.magnitude_ema.float().rsqrt()
        fan_in = weight[0].numel()
        if self.geometry.is_torgb:
            scales = gain.expand(1, len(weight))
            styles = styles / math.sqrt(fan_in)
        else:
            # Weights of a norm of one and styles of a mean square of one keep half precision in its range.
            styles = styles * styles.square().mean(1, keepdim=True).rsqrt()
            weight = weight * weight.square().sum((1, 2, 3), keepdim=True).rsqrt()
            squares = styles.square() @ weight.square().sum((2, 3)).T
            scales = gain * (squares + EPSILON / fan_in).rsqrt()
        x = x.contiguous(memory_format=torch.channels_last) * styles.to(x.dtype)[:, :, None, None]
        weight = weight.to(x.dtype).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(x, weight, padding=self.geometry.kernel - 1)
        filters = (self.up_filter, self.down_filter)
        return filtered_leaky_relu(x, (scales, self.bias), filters, self.geometry.resampling)


class FullyConnected(nn.Module):
    """A linear layer whose stored weights are multiplied by lr_multiplier / sqrt(inputs), float32.

    Args:
        num_in, num_out: sizes.
        lr_multiplier: of weights and bias.
        bias: first value of the bias.
        is_rectified: leaky rectifier with slope 0.2 and gain sqrt(2) behind it.
    """

    def __init__(
        self, num_in: int, num_out: int, *, lr_multiplier: float = 1.0, bias: float = 0.0, is_rectified: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((num_out,), bias / lr_multiplier))
        self.weight_gain, self.bias_gain = lr_multiplier / math.sqrt(num_in), lr_multiplier
        self.is_rectified = is_rectified

    def forward(self, x: Tensor) -> Tensor:
        """(N, num_out) from (N, num_in)."""
        x = F.linear(x, self.weight.float() * self.weight_gain, self.bias.float() * self.bias_gain)
        return F.leaky_relu(x, 0.2) * math.sqrt(2) if self.is_rectified else x


def _unit_square(x: Tensor) -> Tensor:
    """Scaled to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()
