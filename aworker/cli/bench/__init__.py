"""``aworker bench``: what this machine does, beside the loops and libraries that it is compared with.

command       which measures run, in which order          rows        what a measure gives, and how it is shown
throughput    tasks a second                              latency     push to start: idle, behind a backlog, beside work
producing     tasks pushed a second                       heavy       the process pool, backtests
processes     recovery after kill -9, memory              peers       other libraries, in an environment of their own
loops         the bare loops                              workers     a worker in this process, tasks for it
"""
