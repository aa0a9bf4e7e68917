"""Attribute editing with StyleGANEX: in go crops of a head and an edit, out come larger crops and masks.

Yang et al. 2023, "StyleGANEX: StyleGAN-Based Manipulation Beyond Cropped Aligned Faces".
"""
