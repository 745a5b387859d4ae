"""Counters of this process, by name: what the workers' stats show and a metrics endpoint would."""

from collections import Counter

counters: Counter[str] = Counter()
"""Name to count since the process started."""
