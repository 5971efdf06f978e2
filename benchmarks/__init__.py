"""graphc beside its peers: who takes how long for the same numbers. ``python -m benchmarks --help``.

    workloads/   what is computed: data, fewest flops and bytes, a float64 reference, the formula in each library
    peers/       who computes it: how each library is used at its fastest
    compiling.py the row of import and compile times, in fresh processes
    limits.py    what the machine could do at best
    timing.py    agreement first, then interleaved rounds
    report.py    the table, the JSON, the picture

To add a row: a file in workloads/ (or a line in its table, if the family is there).
To add a peer: a file in peers/ and a line in its table; its formulas stand in the workloads.
"""
