"""What we have, by digest: catalogue, pull, safetensors and GGUF files, tokenizers, chat templates.

Not here: running a model (`engine`), papers about it (`trust`).
"""
