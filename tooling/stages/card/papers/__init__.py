"""The papers of a release: facts of a workspace and answers of its maintainers in; Markdown, YAML and JSON-LD out.

answers, questions.toml         what is asked, and what the maintainers answered
facts                           what the workspace knows, as values for the templates
datasheet, citation, croissant  one paper each; terms.md.jinja, takedown.md.jinja and gate.json need no code
write                           all of them into a release
"""
