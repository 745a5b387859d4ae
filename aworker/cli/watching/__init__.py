"""Commands that look on: `top`, `workers`, `doctor`."""
