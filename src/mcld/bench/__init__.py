"""Comparing methods: a grid of runs from one suite file, their measurement on test data, and the report.

A suite (``suite``) spells out to cells. Each cell is an ordinary run directory (``cell``) and ends with a small file of
results (``mcld.runs.results``) that the report is made from. ``runner`` keeps several cells going at once.
"""
