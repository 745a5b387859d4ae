"""What goes on beside the hot path: `renewal` keeps this worker's leases (and tells of others' that end), `control`
hears what operators say.

Invariant: nothing here waits for the event loop's tasks, so that a busy loop loses no lease.
"""
