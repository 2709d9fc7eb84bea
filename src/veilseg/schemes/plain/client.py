"""The raw image goes to the server: no protection. Ceiling of accuracy, control of the audit."""

from veilseg.errors import WrongUsage
from veilseg.payload import Float32Array, Proxy
from veilseg.schemes.bare_answers import BareAnswers, NothingKept


class PlainClient(BareAnswers):
    """Client half of ``plain``."""

    def protect(
        self,
        image: Float32Array,
        subject: str,  # noqa: ARG002 - one interface
        mixture: int = 0,
    ) -> tuple[Proxy, NothingKept]:
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
        Proxy, NothingKept

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
        return Proxy(image), NothingKept()
