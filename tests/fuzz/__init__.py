"""Fuzzers, one a parser. Each module has its invariant in its first line, `check`, and perhaps `WORDS`.

The test run feeds them their corpus and what hypothesis makes of it (test_fuzz.py); `make fuzz` has atheris
look for more, for as long as one likes. What is found becomes a file of the corpus and a vector.
"""
