"""The fault matrix: every step, disturbed in every way, must end as an undisturbed night does.

``make faults`` runs it and prints the table of docs/reliability.md; a sample of its cases is a part of ``make test``.
"""
