"""Which series are segmented, and by which model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from veilseg.errors import WrongUsage

# What a PACS tells of a series when it is asked for them, or a header does.
ATTRIBUTES: Final = (
    "Modality",
    "SeriesDescription",
    "StudyDescription",
    "BodyPartExamined",
    "ProtocolName",
    "StationName",
    "InstitutionName",
    "Manufacturer",
)
# Not images, whatever a rule says; above all the segmentations that were stored here.
NO_IMAGES: Final = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "REG", "DOC", "FID"})


@dataclass(frozen=True)
class Rule:
    """A model, and what has to be true of a series.

    Attributes
    ----------
    model : str
    wanted : mapping of attribute to pattern
        All have to match; ``*`` and ``?`` stand for anything, case does not matter.
    """

    model: str
    wanted: Mapping[str, str]

    @classmethod
    def of(cls, text: str, models: Sequence[str]) -> "Rule":
        """Read ``[MODEL:]ATTRIBUTE=PATTERN[,ATTRIBUTE=PATTERN…]``.

        Raises
        ------
        WrongUsage
            If it is none, or names a model or attribute that is not there.
        """
        before, colon, after = text.partition(":")
        named = bool(colon) and "=" not in before
        model, conditions = (before.strip(), after) if named else ("", text)
        if not model and len(models) == 1:
            model = models[0]
        if model not in models:
            raise WrongUsage(f"--rule {text}: begin with a model: {', '.join(models)}")
        wanted = {}
        for condition in conditions.split(","):
            attribute, equals, pattern = (part.strip() for part in condition.partition("="))
            if attribute not in ATTRIBUTES or not equals or not pattern:
                raise WrongUsage(
                    f"--rule {text}: {condition.strip() or 'nothing'}: give ATTRIBUTE=PATTERN, of "
                    f"{', '.join(ATTRIBUTES)}"
                )
            wanted[attribute] = pattern
        return cls(model, wanted)

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Whether a series with these attributes is segmented."""
        return attributes.get("Modality", "") not in NO_IMAGES and all(
            fnmatchcase(attributes.get(name, "").casefold(), pattern.casefold())
            for name, pattern in self.wanted.items()
        )


def models_for(rules: Sequence[Rule], attributes: Mapping[str, str]) -> list[str]:
    """The models that segment a series with these attributes."""
    return sorted({rule.model for rule in rules if rule.matches(attributes)})
