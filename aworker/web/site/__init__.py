"""The page: what all workers of a Redis do, and what a person may do to a task.

`site` puts it together, from `aworker.overview`; `task` is the page of one task, `charts` the pictures, `live` the
events, `guard` who may ask and act, `actions` what is done, `rendering` the templates.
Invariants: a page costs Redis a bounded number of commands and bytes, whatever is in there; whatever comes from outside
is shown as text; nothing of the Redis URL is shown.
"""
