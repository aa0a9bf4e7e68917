"""What makes fakes: a generator by its name in, a pipeline of diffusers out that turns clips or prompts into pictures.

`registry` names the generators by family, `loading` loads and describes one, `base` has the interface of each family.
Each implementation is a room: `weightfree` needs no weights; `simswap`, `mcnet`, `stylegan3` and `styleganex` run
published weights that `conversion` has converted; `diffusers` and `onnx` wrap pipelines and networks of others.
"""
