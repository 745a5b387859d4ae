"""The process pool: warm children, one socket pair each, one task at a time each."""
