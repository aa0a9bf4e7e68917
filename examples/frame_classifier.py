"""A network of timm that classifies single frames: the usual baseline, to copy and change.

    python examples/frame_classifier.py OWNER/NAME --out frames --pretrained
    python examples/frame_classifier.py demo/homologous_deepfake --out frames --model test_resnet --size 96 --epochs 5

The face of each chosen frame, 224x224, goes through an image classifier with one output. The release is streamed once;
its crops stay in --out, so that epochs decode nothing. Training flips half of the faces. A GPU is used if there is one.

One model is trained for each method, one for all, in a round for each fold of people; a table of video AUC follows. Run
the same again after a stop: it goes on. To try another network, name it with --model or change `FrameClassifier`.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

try:
    import timm
except ImportError:
    sys.exit("error: timm is missing; pip install 'timm>=1.0'")

import torch
from torch import nn

from detection.frames import sample_frames
from detection.predictions import read_samples
from detection.training import TRAINED_ON, TrainSettings, compute_items, cross_table, cross_validate, progress_lines
from generation.errors import GenerationError, one_line


class FrameClassifier(nn.Module):
    """Frames, RGB uint8 (B, 3, H, W) -> logits (B, 1), higher for fakes."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self, name: str, is_pretrained: bool) -> None:
        super().__init__()
        self.network = timm.create_model(name, pretrained=is_pretrained, num_classes=1)
        expected = timm.data.resolve_model_data_config(self.network)
        self.register_buffer("mean", torch.tensor(expected["mean"]).view(3, 1, 1))
        self.register_buffer("spread", torch.tensor(expected["std"]).view(3, 1, 1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        if self.training:
            is_flipped = torch.rand(len(frames)) < 0.5
            frames = torch.where(is_flipped.view(-1, 1, 1, 1).to(frames.device), frames.flip(-1), frames)
        logits: torch.Tensor = self.network((frames / 255 - self.mean) / self.spread)
        return logits


def make_model(name: str, is_pretrained: bool) -> nn.Module:
    """A new network.

    Raises:
        SystemExit: timm has no network of that name, or its weights cannot be fetched.
    """
    try:
        return FrameClassifier(name, is_pretrained)
    except Exception as error:  # of timm, of the Hub and of the network
        advice = "; leave out --pretrained to train from scratch" if is_pretrained else "; timm.list_models() has all"
        sys.exit(f"error: {name}: cannot be made ({one_line(error)}){advice}")


def main() -> None:
    """Trains and tests; all files are in --out."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("release", help="folder of a release, or OWNER/NAME at a Hub")
    parser.add_argument("--out", type=Path, required=True, help="folder for crops, models and predictions")
    parser.add_argument("--model", default="efficientnet_b0", help="of timm (%(default)s)")
    parser.add_argument("--pretrained", action="store_true", help="start from timm's weights, fetched from the Hub")
    parser.add_argument("--frames", type=int, default=8, help="of each clip (%(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of a crop in pixels (%(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="of which validation chooses one (%(default)s)")
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate (%(default)s)")
    parser.add_argument("--trained-on", nargs="+", choices=TRAINED_ON, default=TRAINED_ON, help="(all of these)")
    parser.add_argument("--folds", nargs="+", type=int, default=[], help="test folds; 0 is the release's own test")
    parser.add_argument("--device", default="", help="cpu, cuda, ...; a GPU if there is one")
    options = parser.parse_args()
    model = partial(make_model, options.model, options.pretrained)
    model()  # what cannot be made is named before anything is streamed

    samples, show = read_samples(options.release), progress_lines()
    items = compute_items(
        options.release,
        samples,
        partial(sample_frames, size_px=options.size),
        options.out / "crops",
        num_frames=options.frames,
        progress=show,
    )
    settings = TrainSettings(num_epochs=options.epochs, learning_rate=options.rate, device=options.device)
    files = cross_validate(
        items,
        model,
        settings,
        options.out,
        trained_on=options.trained_on,
        folds=options.folds,
        progress=show,
        report=partial(print, file=sys.stderr),
    )
    if not options.folds:
        print(cross_table(files, samples))
    for paths in files.values():
        print(*paths)


if __name__ == "__main__":
    try:
        main()
    except GenerationError as error:
        sys.exit(f"error: {error}")
