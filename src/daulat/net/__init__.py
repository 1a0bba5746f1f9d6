"""The only door to the network, and its lock.

`transfer` has files, JSON and pip, one after the other; `calls` asks endpoints, many at once; `lock` refuses
every address that is not this machine's, whoever asks. What a part needs is imported with it alone: an
endpoint's start must not wait for what fetches models.
"""
