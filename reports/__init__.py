"""Reports: tables in, one self-contained HTML page out. Imports no noun of the benchmark."""
