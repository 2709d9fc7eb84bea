"""What a scheme gives away by its construction, in words for people. Figures are an audit's."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Words:
    """Of one scheme.

    Attributes
    ----------
    title : str
        What is done to an image before it leaves.
    sees : str
        What the server sees.
    answers : str
        What it answers.
    gives_away : tuple of str
        What follows from that without any attack.
    """

    title: str
    sees: str
    answers: str
    gives_away: tuple[str, ...]


WORDS: Final = {
    "plain": Words(
        "Not protected",
        "The image itself, brought to the model's grid.",
        "The segmentation itself.",
        (
            "The server received the image as it is: everything that can be seen in it.",
            "The server computed the segmentation and has it.",
        ),
    ),
    "mixup": Words(
        "Mixed with a secret reference image",
        "A mixture of the patient and a secret reference.",
        "Both segmentations, mixed. Only this site can take them apart.",
        (
            "The image in part: the patient's anatomy can be recognised in the mixture, and a "
            "network trained to separate mixtures sees more.",
            "The segmentation in part: the answer shows the union of the patient's and the "
            "reference's structures.",
            "Who it is, in part: mixtures of one person resemble each other and the raw image.",
            "More with every different mixture of one person: references average away.",
        ),
    ),
    "encoding": Words(
        "Turned into numbers by an encoder",
        "Numbers from an encoder, drawn as squares of grey, one for each tile.",
        "Numbers that only this site's decoder turns into a segmentation.",
        (
            "Whoever has the encoder, as every site has, can train a network that turns the "
            "numbers back into an image.",
            "Equal images have equal numbers, and similar images similar ones.",
        ),
    ),
    "noise": Words(
        "Covered with noise",
        "The image under noise.",
        "The segmentation itself.",
        (
            "Coarse anatomy is in full view; only fine detail is under the noise.",
            "The segmentation is not protected at all.",
        ),
    ),
    "deformation": Words(
        "Deformed in secret",
        "The image under a secret smooth deformation.",
        "The segmentation under the same deformation.",
        (
            "Intensities, texture and lesions as they are, a little off their place.",
            "The segmentation, deformed alike.",
        ),
    ),
    "privacy_net": Words(
        "Redrawn by an encoder",
        "The image as an encoder redraws it.",
        "The segmentation itself.",
        (
            "Whoever has the encoder, as every site has, can train a network that turns it back.",
            "The segmentation whole, and in its place.",
        ),
    ),
}
BY_CONSTRUCTION: Final = (
    "Which model was asked for, how many tiles came and when, from which address, and how large "
    "the structures in the answer are."
)
