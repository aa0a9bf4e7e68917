"""Streams a subset from the Hub: rows are read as they are used, nothing is downloaded beforehand."""

import sys

from datasets import load_dataset

repo_id = sys.argv[1] if len(sys.argv) > 1 else "lab/homologous_deepfake"
splits = load_dataset(repo_id, "swap_video", streaming=True)
for name, split in splits.items():
    row = next(iter(split))
    print(f"{name}: {row['sample_id']} {split.features['label'].int2str(row['label'])} {tuple(row['video'][0].shape)}")
