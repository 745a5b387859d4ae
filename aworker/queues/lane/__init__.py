"""The hot path, in the order of reading: `admission` says which tasks may start, `lane` shares one round trip between
all slots, `settlement` turns an outcome into writes, `leased` is what a worker sees of it, `plain` the same without
leases.

Invariant: a task leaves Redis only in the step that stores its outcome.
"""
