"""What a person sees: `show` prints records and tables, `chart` a curve, `progress` a bar that log lines do not tear.

Invariant: foreign text cannot steer the terminal.
"""
