"""Blocks of documents about first contact: the demo, and what a site installs."""

from evidence.cells import NOT_YET, dice, head, row
from evidence.places import Places

DEMO = {
    "dice_plain": "plain",
    "dice_private": "mixture, recovered at the site",
    "dice_encoded": "encoding, recovered at the site",
    "answer_separation_dice": "**read off the answer to the mixture, without the key**",
    "alike_tokens_dice": "like tokens in the answer to the encoding, if told what each group is",
    "reference_alone_dice": "the reference's labels alone (knows nothing of the patient)",
}


def demo(places: Places) -> str:
    """What the demo measured on the MNI152 template."""
    found = places.load("demo")
    if found is None:
        return NOT_YET
    lines = head("MNI152 template, grey and white matter", "Dice")
    lines += [row(what, dice(found[name])) for name, what in DEMO.items() if name in found]
    return "\n".join(lines)


def site(places: Places) -> str:
    """What a site installs."""
    found = places.load("site")
    if found is None:
        return NOT_YET
    return (
        f"A site's environment takes {found['megabytes']:.0f} MB (no torch); `veilseg --help` "
        f"answers in {found['help_seconds']:.2f} s."
    )
