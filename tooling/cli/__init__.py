"""The `tooling` command: arguments come in, one function of a stage is called, what it returns is printed.

`app` lists every command in the order of the data's flow; the bodies are in the file of their theme. A body imports the
function that it calls when it runs, so that `tooling --help` loads neither torch nor datasets.
"""
