"""`asyncwb ingest`: streams the rows of files through a buffer into a backend."""

from asyncwb.cli.ingest.command import ingest

__all__ = ["ingest"]
