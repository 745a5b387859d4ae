"""The process: `supervisor` starts and ends everything in order, `slot` is the cycle of one task after the other.
Beside it: `heartbeat` (a thread), `reaper`, `monitor`, `reload`, each made `periodic`.

Invariant: side loops end only when the last slot has.
"""
