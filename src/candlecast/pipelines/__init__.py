"""The use cases, verbs; the only code that joins stores to science.

Every pipeline is a plain function: it reads frames, calls pure functions, and ends with one
short idempotent transaction. Running it again changes nothing.
"""
