"""`python -m daulat` is the command `daulat`."""

from daulat.cli import main

main()
