"""``python -m aworker``: the command line."""

from aworker.cli import main

if __name__ == "__main__":
    main()
