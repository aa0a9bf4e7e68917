"""push: a built release in; out comes a dataset repository at a Hub, tagged and read back."""
