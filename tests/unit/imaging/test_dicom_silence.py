"""What the libraries say of a header quotes it: nobody hears it, in whatever thread they say it."""

import logging
import threading
import warnings

from veilseg.imaging.dicom_files import quiet

CANARY = "CANARY^HEADER"


def test_one_that_is_done_lets_no_other_be_heard(caplog):
    """Levels and filters are of the whole process: the first in and the last out change them."""
    logger = logging.getLogger("pydicom")
    first_in, second_in, first_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with quiet():
            first_in.set()
            assert second_in.wait(60)
        first_out.set()

    def second() -> None:
        assert first_in.wait(60)
        with quiet():
            second_in.set()
            assert first_out.wait(60)
            logger.error(CANARY)
            warnings.warn(CANARY, stacklevel=1)

    before = logger.level, list(warnings.filters)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        inside = logger.level, list(warnings.filters)
        threads = [threading.Thread(target=target) for target in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (logger.level, list(warnings.filters)) == inside
        # And afterwards everything is heard again.
        logger.error("later")
    assert CANARY not in caplog.text
    assert "later" in caplog.text
    assert heard == []
    assert (logger.level, list(warnings.filters)) == before
