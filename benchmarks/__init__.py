"""The benchmarks: every server under the same load, in one run, compared by server CPU per request.

asgid imports nothing from here. A peer that is not installed is skipped, and the report names it.
"""
