"""Full-face generation with StyleGAN3: in go seeds, and for `text_pipeline` prompts, out come images of faces.

Karras et al. 2021, "Alias-Free Generative Adversarial Networks".
"""
