"""Anthropic's messages as bounded types: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

Source: https://docs.anthropic.com/en/api/messages, and the types of the `anthropic` SDK.
"""
