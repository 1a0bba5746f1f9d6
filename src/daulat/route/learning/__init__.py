"""Routers that are fitted on outcomes: what several endpoints answered to the same examples.

Pure: numbers and texts in, numbers out. No network and no database; files are read in `files` alone. What is
fitted is applied by numpy; scikit-learn is imported while something is fitted, and not before.

Not here: asking endpoints (`evaluate`), certificates (`route.certificate`).
"""
