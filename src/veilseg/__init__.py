"""Segment medical images on someone else's server without showing it the patient."""

__version__ = "0.1.0"
