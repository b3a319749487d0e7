"""The version of the package, which its files and its commands name."""

from __future__ import annotations

__version__ = "0.1.0"
