"""Draws one pair of each subset of fake videos: the real clip, the fake, where they differ, and the source's clip.

python examples/show_pairs.py demo/homologous_deepfake pairs.png
python examples/show_pairs.py OWNER/NAME pairs.png test
"""

import sys

import matplotlib.pyplot as plt

from detection.frames import Evenly, sample_row
from detection.pairs import load_pairs
from homologous_deepfake import MASKED_SUBSETS

NUM_FRAMES = 3
ROWS = ("real", "fake", "mask", "source")


def main(release: str, picture: str, split: str = "train") -> None:
    figure = plt.figure(figsize=(3.2 * len(MASKED_SUBSETS), 4.4), layout="constrained")
    panels = figure.subfigures(1, len(MASKED_SUBSETS), squeeze=False)[0]
    for panel, subset in zip(panels, MASKED_SUBSETS, strict=True):
        pair = next(iter(load_pairs(release, subset, split, streaming=True, masks=True)))
        panel.suptitle(pair["fake"]["sample_id"], fontsize="medium")
        axes = panel.subplots(len(ROWS), NUM_FRAMES, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        samples = {who: sample_row(row, Evenly(NUM_FRAMES), masks=True) for who, row in pair.items() if row}
        shown = {who: sample["frames"].transpose(0, 2, 3, 1) for who, sample in samples.items()}
        shown["mask"] = None if samples["fake"]["masks"] is None else samples["fake"]["masks"][:, 0]
        for name, line in zip(ROWS, axes, strict=True):
            pictures = shown.get(name)
            line[0].set_ylabel("" if pictures is None else name, fontsize="small")
            for number, cell in enumerate(line):
                cell.set(xticks=[], yticks=[], frame_on=False)
                if pictures is not None:
                    cell.imshow(pictures[number], cmap="gray", vmin=0, vmax=255)
    figure.savefig(picture, dpi=100)
    print(picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
