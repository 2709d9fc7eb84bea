"""The raw image goes to the server: no protection. Ceiling of accuracy, control of the audit."""

from veilseg.errors import WrongUsage
from veilseg.payload import Answer, Float32Array, Proxy, Receipt


class PlainReceipt(Receipt):
    """Nothing has to be kept."""


class PlainClient:
    """Client half of ``plain``."""

    def protect(
        self,
        image: Float32Array,
        subject: str,  # noqa: ARG002 - one interface
        mixture: int = 0,
    ) -> tuple[Proxy, PlainReceipt]:
        """Pass the image on unprotected.

        Parameters
        ----------
        image : ndarray, shape (C, X, Y, Z), float32
        subject : str
            Unused.
        mixture : int
            There is one proxy of an image, number 0.

        Returns
        -------
        Proxy, PlainReceipt

        Raises
        ------
        WrongUsage
            If another than number 0 is asked for.

        Leaks
        -----
        To the server: the image itself, cropped and scaled, and with it everything.
        """
        if mixture:
            raise WrongUsage("--mixtures: plain mixes nothing, so there is nothing to average")
        return Proxy(image), PlainReceipt()

    def recover(self, answer: Answer, receipt: Receipt) -> Float32Array:  # noqa: ARG002 - one interface
        """The answer is the segmentation.

        Parameters
        ----------
        answer : Answer
            Class probabilities, shape (K, X, Y, Z).
        receipt : Receipt
            Unused.

        Returns
        -------
        ndarray, shape (K, X, Y, Z), float32

        Leaks
        -----
        The server knows the segmentation as well as the site does.
        """
        return answer.array
