"""Engines without accelerators: vLLM, SGLang and MindIE as their callers see them, with faults on demand.

Used by tests, by benches and by operators for drills. It imports nothing of the gateway.
"""
