"""The commands of ``hmamba``: :mod:`jobs.commands.table` lists them, and each is a thin face of library code.

Modules of commands import what a command needs inside the command, so that ``hmamba --help`` is fast and ``hmamba
doctor`` works where a library is missing.
"""
