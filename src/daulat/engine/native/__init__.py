"""The decoder in machine code: compiled for this processor when it is first used, then kept on disk.

`vector` says how sixteen numbers are computed at once, `matrices` lays out weights and multiplies by them,
`attention` and `program` are one step of a decoder in terms of these, `tiles` and `tile_attention` the same by
the processor's matrix units where there are any (`units`), `team` are the threads that run it, and `decoder`
puts it all behind the interface of `engine.decoder`, which stays beside it as the plain and slow way to the
same numbers.
"""

from daulat.engine.native import home as _home  # first: it says where what is compiled is kept

_home.choose()
