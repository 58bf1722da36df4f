"""Geometry where it can pay: HMamba against its Euclidean twin in few dimensions, by popularity, coverage and radius.

python -m bench.geometry beauty --folder DATA --dims 4,8,16,32 --seeds 1,2,3

trained.py    train one model and keep what it ranks and where its points lie
measures.py   measures of rankings and radii
compare.py    measures of all trainings, and differences between the two variants
page.py       the Markdown page
"""
