"""Parts of full-face generation: in go clips of people, out comes a space of faces; in goes a seed, out a portrait."""
