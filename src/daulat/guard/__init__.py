"""What is in this text: keys today; personal data, secrets, injection and risks as they come.

Rooms above ask and decide. Not here: what to do about it.
"""
