"""A report of runs: one HTML file with everything inside it, and a short Markdown summary beside it.

`writing` is the way in. Each other file finds the facts of one part of the page; `page` lays them out. A part whose
facts are missing is left out, and the page says which command would add it.
"""
