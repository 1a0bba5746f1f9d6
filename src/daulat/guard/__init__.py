"""What is in this text: personal data, secrets, and patterns that a user writes.

`guard.scan` looks, `guard.redaction` puts placeholders in place of what was found and takes them back, and
`guard.keys` knows Daulat's own keys alone, without the rest. Rooms above ask and decide. Not here: what to do
about it.
"""
