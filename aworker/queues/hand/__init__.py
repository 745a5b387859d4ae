"""What a person does to a task, from any process: `find` it, say `why` it waits, `move`, `pause` and `cancel` it, put
`dead_letters` back; `ends` says where a list is taken from.

Invariant: each act is one script or one transaction, so that a worker which claims meanwhile sees before or after.
"""
