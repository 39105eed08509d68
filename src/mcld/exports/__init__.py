"""Trained networks for other software: one file for each format, and the check that every export has to pass."""

from mcld.exports._base import Export, Job, Runner

__all__ = ["Export", "Job", "Runner"]
