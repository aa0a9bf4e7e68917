"""The papers of a release: datasheet, terms, takedown page, citation, Croissant."""
