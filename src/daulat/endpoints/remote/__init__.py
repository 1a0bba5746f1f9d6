"""Endpoints elsewhere: one way to call them, and a dialect for each kind of upstream.

A dialect (`dialect`) is pure: it turns a request into a call and what comes back into events. Sockets,
waiting and limits are `upstream`'s; tokens and keys `access`'s. Not here: whether and when an endpoint is
asked, retries and fallbacks (`flow`).
"""
