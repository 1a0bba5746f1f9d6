"""OpenAI's wire format as bounded types.

What comes in becomes `daulat.values`; what goes out is made of them. Only this package knows the
format. A request's types are its documentation: `server.openapi` is made from them.
"""
