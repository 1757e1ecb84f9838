"""The benchmarks: every peer under the same load, in one run, judged by server CPU per request.

Nothing here is imported by asgid; a peer that is not installed is skipped, and the report says so.
"""
