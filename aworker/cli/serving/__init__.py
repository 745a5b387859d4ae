"""`run`, a worker from the shell: `embedded` is the server it may bring, `feed` the tasks it may be fed; `waiting`
waits for a task's end.
"""
