"""Scenarios for `l2-prover conformance`: made from seeds, judged by Ethereum's executable specification.

The specification (PyPI `ethereum-execution`) executes every block here and says which are valid and what their state
is. It shares no code with the prover. `run.py` is the command; docs/conformance.md says how to use it.
"""
