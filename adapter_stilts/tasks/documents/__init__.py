"""Users' own files for `predict`: how each kind of task reads them, and how its answers are given back.

`words`, `texts` and `choices` each have a `read(reading, path, file_format, columns)`; a kind names the one that it
uses.
"""
