"""The experiments that the networks were tuned by."""
