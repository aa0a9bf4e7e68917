"""Search for the latent of a generator whose image scores best: gradient descent on z or w, a batch at a time.

The loop is that of text2stylegan (CLIP-guided descent by Adam); what an image is scored by is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's usual name
from numpy.typing import NDArray
from torch import Tensor

from generation.generators.stylegan3.network import StyleganGenerator

Space = Literal["w", "z"]
Keep = Literal["best", "last"]
# Images (M, 3, S, S), nominally [-1, 1], and which of the batch they are -> losses (M,).
Score = Callable[[Tensor, Sequence[int]], Tensor]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class SearchSettings:
    """How a latent is searched for; the values are those of text2stylegan, but for `keep`.

    Attributes:
        space: "w" moves one w for all layers, without truncation on the way; "z" moves z, truncated at every step.
        psi: truncation; in "w" of the start only.
        learning_rate: of Adam.
        num_iterations: at most.
        keep: "best" returns the latent of the lowest loss, "last" the one after the last step.
        patience: iterations without gain after which a search ends; 0 never ends early.
        least_gain: by how much a loss must fall below the lowest before to count as a gain.
        pull: weight of the mean square distance from the start, which keeps w where faces are; 0 is none.
    """

    space: Space = "w"
    psi: float = 0.5
    learning_rate: float = 0.02
    num_iterations: int = 501
    keep: Keep = "best"
    patience: int = 0
    least_gain: float = 1e-3
    pull: float = 0.0


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        latents: (N, 1, w_dim) float32 or (N, z_dim) float64, see `SearchSettings.keep`.
        losses: of every image, before each step; one more, of the last latent, with "best".
    """

    latents: Tensor
    losses: list[list[float]]


def draw_latents(seeds: Sequence[int], z_dim: int) -> NDArray[np.float64]:
    """Normal noise (N, z_dim), each row of its own seed alone."""
    return np.stack([np.random.Generator(np.random.PCG64(seed)).standard_normal(z_dim) for seed in seeds])


def start_latents(network: StyleganGenerator, z: Tensor, settings: SearchSettings) -> Tensor:
    """Where a search begins: z itself (N, z_dim), or its truncated w (N, 1, w_dim)."""
    if settings.space == "z":
        return z.detach()
    with torch.no_grad():
        start: Tensor = network.mapping(z, psi=settings.psi)[:, :1]
    return start


def render(network: StyleganGenerator, latents: Tensor, settings: SearchSettings) -> Tensor:
    """Images (N, 3, S, S) of latents, nominally [-1, 1]."""
    if settings.space == "z":
        images: Tensor = network(latents, psi=settings.psi)
    else:
        images = network.synthesis(latents.expand(-1, network.synthesis.num_ws, -1))
    return images


def search(network: StyleganGenerator, start: Tensor, score: Score, settings: SearchSettings) -> Found:
    """Moves every latent of a batch down its own loss; one image does not act on another.

    Args:
        network: its weights need no gradient.
        start: of `start_latents`.
        score: differentiable; the lower the better.
        settings: see `SearchSettings`.
    """
    searches = [_Search(one) for one in torch.split(start, 1)]
    optimizer = torch.optim.Adam([one.latent for one in searches], lr=settings.learning_rate)
    with torch.inference_mode(False), torch.enable_grad():
        for _ in range(settings.num_iterations):
            going = [number for number, one in enumerate(searches) if not one.has_ended(settings)]
            if not going:
                break
            latents = torch.cat([searches[number].latent for number in going])
            losses = score(render(network, latents, settings), going)
            for number, loss in zip(going, losses.tolist(), strict=True):
                searches[number].note(loss, settings)
            if settings.pull:
                away = (latents - start[going]).square().flatten(1).mean(1)
                losses = losses + settings.pull * away
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(losses.sum())
            optimizer.step()
    if settings.keep == "last":
        return Found(torch.cat([one.latent.detach() for one in searches]), [one.losses for one in searches])
    with torch.no_grad():
        latents = torch.cat([one.latent for one in searches])
        losses = score(render(network, latents, settings), range(len(start)))
    for one, loss in zip(searches, losses.tolist(), strict=True):
        one.note(loss, settings)
    return Found(torch.cat([one.best for one in searches]), [one.losses for one in searches])


class _Search:
    """One latent on its way."""

    def __init__(self, start: Tensor) -> None:
        with torch.inference_mode(False):
            self.latent = start.detach().clone().requires_grad_()
        self.best = start.detach()
        self.lowest = float("inf")
        self.losses: list[float] = []
        self._gained, self._mark = 0, float("inf")

    def note(self, loss: float, settings: SearchSettings) -> None:
        """Takes down the loss of the latent as it is, before its step."""
        if loss < self.lowest:
            self.lowest, self.best = loss, self.latent.detach().clone()
        if loss < self._mark - settings.least_gain:
            self._gained, self._mark = len(self.losses), loss
        self.losses.append(loss)

    def has_ended(self, settings: SearchSettings) -> bool:
        """Whether the loss has not gained for `patience` iterations."""
        return bool(settings.patience) and len(self.losses) - 1 - self._gained >= settings.patience


def clip_view(images: Tensor, side_px: int = 224, *, antialias: bool = False) -> Tensor:
    """Images as CLIP wants them: (N, 3, P, P), normalised, from (N, 3, S, S), nominally [-1, 1], not clamped.

    Args:
        images: of a generator.
        side_px: P.
        antialias: whether a low pass goes before the way down; text2stylegan has none.
    """
    mean, std = (torch.tensor(three, device=images.device).view(3, 1, 1) for three in (CLIP_MEAN, CLIP_STD))
    resized = F.interpolate(
        (images + 1) / 2, (side_px, side_px), mode="bilinear", align_corners=False, antialias=antialias
    )
    return (resized - mean) / std


def cosine_losses(features: Tensor, requested: Tensor) -> Tensor:
    """1 - cosine of features (N, D) and expected ones (N, D) or (1, D): (N,)."""
    return 1 - F.cosine_similarity(features, requested)


def output_to_images(images: Tensor) -> NDArray[np.uint8]:
    """RGB uint8 (N, S, S, 3)."""
    # NCHW float, nominally [-1, 1] -> NHWC uint8
    scaled = (images.detach() * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    return np.asarray(scaled.permute(0, 2, 3, 1).cpu().numpy())
