"""Portraits of nobody: a space of faces is fitted to the crops of a few people, and painted from."""
