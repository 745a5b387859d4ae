"""The command line: argv becomes a call, its end an exit code.

Exit codes: 0 done, 1 what was asked failed, 2 the command line or the configuration is wrong, 3 there is no such
thing or no result yet, 69 Redis cannot be reached or refuses, 70 the worker's loop stalled. Kept empty at the top:
child processes import the entry module again.
"""


def main() -> None:
    """Run the command line and leave with its exit code."""
    from aworker.cli.program import run_program

    run_program()
