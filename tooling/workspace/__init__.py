"""The work folder of a release, and every file in it that is not media.

In: a folder. Out: its identities, plan, records and settings as typed values, and writes that a kill at any moment
leaves either done or not begun. `layout` opens it, `path_kinds` lists its paths, `decoding` reads what lies there.
"""
