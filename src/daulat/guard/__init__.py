"""What is in a text; never what to do about it (that is `policy`), and never a copy of what was found."""
