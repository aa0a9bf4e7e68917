"""Full-face generation with StyleGAN3, from seeds or from a prompt."""
