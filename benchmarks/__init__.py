"""Benchmarks of the package against its peers; each calls the package's own functions and writes one JSON file."""
