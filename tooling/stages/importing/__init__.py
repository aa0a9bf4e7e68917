"""import: an archive made elsewhere in, files of the workspace out."""
