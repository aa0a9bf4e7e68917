"""Generators over pipelines of diffusers itself: in goes a folder or repository, out comes a pipeline of a family.

`catalogue` says as data how each class is called; `loading` refuses foreign code, pickles and missing weights.
"""
