"""One or many files as one lazy stack of patterns (n, rows, columns)."""

from helpers.patterns.opening import open_patterns
from helpers.patterns.patterns import Patterns

__all__ = ["Patterns", "open_patterns"]
