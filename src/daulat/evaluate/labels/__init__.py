"""Labels by people: a few of them, blind, to correct what a judge says of all answers.

`sheet` draws what is labelled, `desk` is one person's session, `book` keeps what was said, `correcting`
estimates from judge and people together. docs/compare.md is for users.
"""
