"""Evidence: tasks, metrics, comparisons of endpoints on the same examples, and certificates.

`thresholds` which of a router's are shown to keep quality, `certifying` certificates, `keeping` where they are.
"""
