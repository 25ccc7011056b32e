"""A store under a load of years in half an hour: kill -9, faults of the disk, feeds in any order, a long calendar.

`make soak`, or `python -m soak [--quick] [--seed N] [--only PART]`. Each part is a module with a function that returns
its cases; a case says what was done and what is wrong, nothing where all is well.
"""
