"""What speaks Redis on the worker's side.

`connection` reconnects and tells when the server is away; `scripts` holds the Lua, one transition each; `records`
writes the wire protocol's records and messages; `pauses` reads what is paused, `queue` says what a worker needs. On
them stand three rooms: `lane` is the way of every task from claim to settle, `upkeep` what goes on beside it, `hand`
what a person does to a task.

Invariant: a task that Redis holds is in exactly one place, and every write about it is fenced by its lease.
"""
