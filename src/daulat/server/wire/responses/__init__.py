"""OpenAI's responses as bounded types: `/v1/responses`.

Source: https://platform.openai.com/docs/api-reference/responses, and the types of the `openai` SDK.
"""
