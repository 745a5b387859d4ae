"""What is wrong with a Redis and the workers on it, and the command that mends it.

`catalogue` names every finding and why it matters; `examination` is what the checks may ask of the server, `items` runs
them all. Invariants: it changes nothing; every question is bounded, whatever is in there; where a server or its access
list refuses an answer, the item says so, and the others go on.
"""
