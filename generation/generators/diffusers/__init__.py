"""diffusers' own pipelines as generators."""
