"""import: an archive made elsewhere in; files in the workspace out, and for every member what became of it.

run      the steps: names, identities, consent, collisions, then unpack, take or encode again, publish
archive  an untrusted archive: limits, and unpacking to names that are safe
formats  zip, tar and folders: how to list and open their members
names    what a member's name means
intake   whether a file meets the contract of its subset
"""
