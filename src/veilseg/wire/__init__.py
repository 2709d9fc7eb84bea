"""Open Inference Protocol v2 over HTTP with the binary tensor extension.

What crosses the trust boundary, as bytes: ``tensors`` turns arrays into protocol tensors
and back, ``infer`` does so for whole requests and answers, ``documents`` describes server
and models, ``paths`` builds URLs. NumPy and the standard library only, so that a site
needs no web framework and both sides read the same rules.

Numbers are little-endian and row-major. A message that breaks a rule raises
:class:`~veilseg.wire.errors.WireError`; nothing is guessed, padded or cut.
"""

from veilseg.wire.errors import WireError
from veilseg.wire.infer import (
    InferAnswer,
    InferRequest,
    Message,
    RequestedOutput,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from veilseg.wire.tensors import Tensor

__all__ = [
    "InferAnswer",
    "InferRequest",
    "Message",
    "RequestedOutput",
    "Tensor",
    "WireError",
    "decode_answer",
    "decode_request",
    "encode_answer",
    "encode_request",
]
