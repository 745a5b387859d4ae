"""Strategies: `strategy` says what one is and checks it, `store` keeps them with their versions, `llm` asks a
language model for one.

Invariant: what is stored has passed the checks of `strategy`, whoever wrote it.
"""
