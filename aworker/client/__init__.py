"""What a producer imports: `client` pushes tasks and waits for results, `routing` says to which list, `admin` counts,
shows and clears lists with any Redis client.

Invariant: nothing here imports what a worker needs: no slots, no scripts for claiming, no handlers, no trading.
"""
