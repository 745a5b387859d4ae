"""Commands that look on: `top` and `workers`."""
