"""What is shown over HTTP: `metrics` for Prometheus, `health` for whoever restarts the worker, `server` that listens,
and `site`, the page for people.

Imported only when a port is set. Invariant: without a token it reads, and changes nothing; what it shows of Redis holds
no secret.
"""

from aworker.web.site.site import page

__all__ = ["page"]
