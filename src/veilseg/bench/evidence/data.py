"""Data sets on which everything is measured, and what all trainings of one have in common."""

from dataclasses import dataclass

FOLDS = 5

NON_COMMERCIAL = "CC BY-NC-SA 4.0, non-commercial"


@dataclass(frozen=True)
class Data:
    """A data set, and what all its trainings have in common.

    Attributes
    ----------
    name : str
        Beginning of the names of its trainings and results.
    folder : str
        Under ``VEILSEG_DATA``.
    title : str
        In tables.
    steps : int
        Of every scheme, all of them together.
    licence : str
        Of weights trained on it.
    fold : str
        As 2/5; empty for the default split.
    raw_steps : int
        So many of them are on raw images, as one network, which is ``plain``; what the rest would
        bring it is measured by ``longer``. 0: every scheme begins with nothing.
    """

    name: str
    folder: str
    title: str
    steps: int
    licence: str
    fold: str = ""
    raw_steps: int = 0


HIPPOCAMPUS = Data(
    *("hippocampus", "hippocampus", "Hippocampus", 4000),
    "CC BY-SA 4.0 (trained on Task04 of the Medical Segmentation Decathlon, CC BY-SA 4.0)",
)
# The first of all folds: people are tested once each, and what is shipped is one of their networks.
# The 2D sets' tables are sorted by disease, site or kind of image: the default split would test one
# kind only.
DEALT = f"1/{FOLDS}"
BRAIN = Data(
    *("brain-tissue", "brain_t1_oasis_3d", "Brain tissue", 4000),
    f"{NON_COMMERCIAL} (trained on OASIS-1 with Neuromorphometrics labels, CC BY-NC)",
    *(DEALT, 1600),
)
CARDIAC = Data(
    *("cardiac", "cardiac_acdc_2d", "Heart, cine MR (2D)", 13_500),
    f"{NON_COMMERCIAL} (trained on ACDC, CC BY-NC-SA 4.0)",
    *(DEALT, 4500),
)
RETINA = Data(
    *("retina", "retina_vessels", "Retinal vessels (2D)", 13_500),
    "CC BY 4.0 (trained on DRIVE and CHASE_DB1, CC BY 4.0)",
    *(DEALT, 4500),
)
BREAST = Data(
    *("breast", "breast_us_busi", "Breast lesion, ultrasound (2D)", 13_500),
    "CC BY 4.0 (trained on BUSI, CC BY 4.0)",
    *(DEALT, 4500),
)
NUCLEI = Data(
    *("nuclei", "nuclei_dsb2018", "Nuclei, microscopy (2D RGB)", 13_500),
    "CC0 (trained on BBBC038, CC0)",
    *(DEALT, 4500),
)
ALL = (HIPPOCAMPUS, BRAIN, CARDIAC, RETINA, BREAST, NUCLEI)
