"""An attack on gatecast: damaged and hostile files, faults of the disk, kill -9 at every operation on files.

`python -m attack` (`make attack`) makes good files, mutates them with a seed, gives each to what reads it in a process
of its own with limits, and prints a table. Failures are tracebacks, hangs, too much memory, forbidden events, states
that block a later run, and wrong numbers that nobody would have noticed. `--quick` takes a few cases of each (the tests
do).

- `cell`      one case in a process of its own: time, memory and what it may do are limited
- `readers`   everything of gatecast's that reads a file, each with a good example
- `mutate`    good bytes in, bad bytes out
- `crashes`   the same writing, ended at its n-th operation on files, or with a fault there
"""
