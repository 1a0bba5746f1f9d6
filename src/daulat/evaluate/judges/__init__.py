"""Judges: endpoints that say which of two answers is better, or how good one is.

`prompting` asks, with what endpoints answered fenced off; `verdicts` reads the replies; `judging` puts the two
together. docs/judges.md is for users.
"""
