"""Prompts of people, read with a lexicon and one grammar: `lattice` finds what each phrase may mean, `chart` reads it
under `grammar`, `meaning` settles what was left open and writes rules.

Invariant: every word that bears meaning is part of the reading, or the prompt is refused.
"""
