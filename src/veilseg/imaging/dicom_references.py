"""What a DICOM segmentation says of its patient, of the slices it lies on, and of its labels."""

import highdicom as hd
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DSfloat

from veilseg.bundle import ClientManifest, Label
from veilseg.imaging.dicom_files import Part

# A result must belong to the same patient and study; of both, these are required of every object.
# Empty where the source has none. Anything else of the patient (age, weight, other ids) stays out.
IDENTIFYING = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# What references and places the slices; of these, none is made up.
PLACING = (
    "StudyInstanceUID",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)
# Codes of labels that the bundle has none for: this scheme is Veilseg's own and means nothing
# beyond the label's value and name in its bundle.
OWN_SCHEME = "99VEILSEG"
# What a property is one of, and DICOM's context groups (PS3.16) of the properties that are.
CATEGORIES = (
    (codes.SCT.Tissue, codes.cid7191),
    (codes.cid7150.AnatomicalStructure, codes.cid7192),
    (codes.cid7150.PhysicalObject, codes.cid7193),
    (codes.cid7150.MorphologicallyAbnormalStructure, codes.cid7194),
    (codes.cid7150.Function, codes.cid7195),
    (codes.cid7150.SpatialAndRelationalConcept, codes.cid7196),
    (codes.cid7150.BodySubstance, codes.cid7197),
    (codes.cid7150.Substance, codes.cid7198),
    (codes.cid7150.MorphologicallyAbnormalStructure, codes.cid7199),
)
# Longest text of the value representations LO and CS, and of a code value.
LONGEST_TEXT = 64
LONGEST_CODE = 16


def reference(part: Part, thickness_mm: float) -> Dataset:
    """What a segmentation may know of a slice; as thick as told where its header does not say."""
    source = part.dataset
    known = Dataset()
    # Names may be of any script, and so may labels.
    known.SpecificCharacterSet = "ISO_IR 192"
    for keyword in IDENTIFYING:
        value = source.get(keyword)
        is_name = keyword.endswith("Name")
        setattr(known, keyword, "" if value is None else str(value) if is_name else value)
    for keyword in PLACING:
        value = source.get(keyword)
        if value is not None:
            setattr(known, keyword, value)
    if known.get("SliceThickness") is None and "NumberOfFrames" not in known:
        known.SliceThickness = DSfloat(thickness_mm, auto_format=True)
    return known


def description(label: Label, manifest: ClientManifest) -> hd.seg.SegmentDescription:
    """What a segment is, and which bundle found it."""
    code = code_of(label)
    return hd.seg.SegmentDescription(
        segment_number=label.value,
        segment_label=short_text(label.name),
        segmented_property_category=category_of(code),
        segmented_property_type=code,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=short_text(manifest.name),
            family=codes.DCM.ArtificialIntelligence,
            version=short_text(manifest.version),
            source="Veilseg",
            parameters={"scheme": manifest.scheme, "bundle_id": manifest.bundle_id},
        ),
    )


def code_of(label: Label) -> Code:
    """The bundle's code of a label, or else one of Veilseg's own that says its value and name."""
    code = label.code or {}
    if {"value", "scheme", "meaning"} <= code.keys():
        return Code(code["value"], code["scheme"], short_text(code["meaning"]))
    return Code(str(label.value)[:LONGEST_CODE], OWN_SCHEME, short_text(label.name))


def category_of(code: Code) -> Code:
    """What DICOM counts a property among; the widest, tissue, where it does not list it."""
    found = (category for category, properties in CATEGORIES if code in properties)
    category: Code = next(found, codes.SCT.Tissue)
    return category


def short_text(text: str) -> str:
    """As DICOM's short texts are: a backslash would part it in two."""
    return text.replace("\\", "/")[:LONGEST_TEXT]
