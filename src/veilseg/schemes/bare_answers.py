"""For schemes whose answer is the segmentation itself: the mask is not protected."""

from veilseg.payload import Answer, Float32Array, Receipt


class NothingKept(Receipt):
    """Nothing has to be kept: the answer needs no recovering."""


class BareAnswers:
    """The half of a client half that recovers, where there is nothing to recover."""

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:  # noqa: ARG002 - one interface
        """The answer is the segmentation.

        Parameters
        ----------
        answer : Answer
            Class probabilities, shape (K, X, Y, Z) or (K, X, Y).
        receipt : Receipt
            Unused.

        Returns
        -------
        ndarray, shape (K, X, Y, Z) or (K, X, Y), float32

        Leaks
        -----
        The mask: the server knows the segmentation, in its place, as well as the site does.
        """
        return answer.array
