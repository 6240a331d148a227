"""Studies: claims of the papers put to nets of one's own, each answered by a page and a JSON file.

A module measures (pure functions), says what came of it in words that are computed from the
numbers, and returns a `Study`, which `resnets.studies.study.write` makes a page of.
"""
