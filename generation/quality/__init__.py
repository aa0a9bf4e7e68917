"""Checks of what a generator made: a picture or a finished clip in, findings and measurements out."""
