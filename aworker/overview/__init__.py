"""What all workers of a Redis do and what waits there, at one moment: the page and the terminal show the same.

`snapshot` takes it, `verdict` says whether all is well, `values` is it as JSON. Invariant: a snapshot costs Redis two
or three round trips of a bounded size, whatever is in there.
"""
