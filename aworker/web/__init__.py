"""What a worker shows over HTTP: `metrics` for Prometheus, `health` for whoever restarts it, `server` that listens.

Imported only when a port is set. Invariant: it reads, and changes nothing; what it shows of Redis holds no secret.
"""
