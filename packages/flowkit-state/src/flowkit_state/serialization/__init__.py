"""Conversion of Python values to JSON text or pickles, and back."""
