"""The one error of this package."""

from veilseg.errors import InvalidInput


class WireError(InvalidInput):
    """A message that breaks the Open Inference Protocol.

    Messages name the tensor or field and the rule, never a value of a tensor.
    """
