"""HTTP on one side, values on the other: routes, wire formats, errors, metrics, logs.

It decides nothing. Start with `routes.py`, which is the whole interface as one table.
"""
