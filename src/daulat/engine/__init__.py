"""Our own inference of open models: one decoder described by data, a scheduler, a sampler.

A token's life: `sequence` holds an answer in the making, `scheduler` decides what goes into the next step,
`decoder` computes it over the sequence's `cache`, `sampler` chooses, and `runner` is the thread that keeps
this going. Not here: prompts, HTTP, which model (`endpoints`).
"""
