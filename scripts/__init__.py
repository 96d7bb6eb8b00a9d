"""What only the repository's developers run; no part of the package."""
