"""The same pipelines from a shell."""

from candlecast.cli.app import main

__all__ = ["main"]
