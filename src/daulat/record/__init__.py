"""An append-only, hash-linked record of every exchange: what is not here did not happen.

`schema` the tables, `chain` the entries and their hashes, `store` appending and reading, `entering` entries
with their money, `writing` and `writer` a process that writes for a busy server, `verify` the proof,
`export` JSON lines, `keys` who may ask, `transcript` what is kept of an exchange, `instances` which
processes are at work; `ledger` who may use how much, `statistics` what was used; `migrations` from one
format to the next, `copying` from one database to another. docs/record.md explains it to users.
"""

from daulat.record.chain import Entry, new_id
from daulat.record.export import export, verify_export
from daulat.record.store import Exchange, Record
from daulat.record.verify import Fault, Verdict, verify

__all__ = [
    "Entry",
    "Exchange",
    "Fault",
    "Record",
    "Verdict",
    "export",
    "new_id",
    "verify",
    "verify_export",
]
