"""Judges: endpoints that say which of two answers is better, or how good one is.

`prompting` asks, with what endpoints answered fenced off; `verdicts` reads the replies; `judge` puts the two
together, `rounds` goes through a comparison, and `appointing` finds who judges it. docs/compare.md is for
users.
"""
