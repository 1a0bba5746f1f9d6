"""An answer's events as each dialect shows them: values in, wire types or server-sent events out.

`base` is what they have in common; one module a dialect. Which one, is its route's handler's to say.
"""
