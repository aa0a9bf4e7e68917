"""Draws one pair of each subset of fake videos: the real clip, the fake, where they differ, and the source's clip.

python show_pairs.py RELEASE PICTURE [SPLIT]    # a release's folder or OWNER/NAME; pairs.png
"""

import sys

import matplotlib.pyplot as plt

from detection.frames import Evenly, sample_row
from detection.pairs import FAKE_VIDEOS, load_pairs

NUM_FRAMES = 3
ROWS = ("real", "fake", "mask", "source")


def main(release: str, picture: str, split: str = "train") -> None:
    figure = plt.figure(figsize=(3.2 * len(FAKE_VIDEOS), 4.4), layout="constrained")
    panels = figure.subfigures(1, len(FAKE_VIDEOS), squeeze=False)[0]
    for panel, subset in zip(panels, FAKE_VIDEOS, strict=True):
        pair = next(iter(load_pairs(release, subset, split, streaming=True, masks=True)))
        panel.suptitle(pair["fake"]["sample_id"], fontsize="medium")
        axes = panel.subplots(len(ROWS), NUM_FRAMES, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for name, line in zip(ROWS, axes, strict=True):
            row = pair["fake" if name == "mask" else name]
            sample = sample_row(row, Evenly(NUM_FRAMES), masks=True) if row else {}
            line[0].set_ylabel(name if row else "", fontsize="small")
            for number, cell in enumerate(line):
                cell.set(xticks=[], yticks=[], frame_on=False)
                if name == "mask" and sample["masks"] is not None:
                    cell.imshow(sample["masks"][number, 0], cmap="gray", vmin=0, vmax=255)
                elif name != "mask" and row:
                    cell.imshow(sample["frames"][number].transpose(1, 2, 0))
    figure.savefig(picture, dpi=100)
    print(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
