"""Loads a subset and prints its first row. Run it in the folder that contains `homologous_deepfake/`."""

from datasets import load_dataset

dataset = load_dataset("homologous_deepfake", "swap_video")
print(dataset)
split = "train" if "train" in dataset else next(iter(dataset))
for name, feature in dataset[split].features.items():
    print(f"  {name}: {feature}")
row = dataset[split][0]
for name, value in row.items():
    text = repr(value)
    print(f"  {name} = {text if len(text) <= 100 else text[:97] + '...'}")
print(f"  first frame: {tuple(row['video'][0].shape)} {row['video'][0].dtype}")
