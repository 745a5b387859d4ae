"""Running a handler: `registry` knows them, `context` is what they get, `executor` runs one and turns whatever
happens into an outcome; heavy work goes to the processes of `pool`.

Invariant: nothing that a handler does reaches a slot other than as an outcome.
"""
