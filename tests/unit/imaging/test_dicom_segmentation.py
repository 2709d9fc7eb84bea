"""Labels written as a DICOM segmentation come back voxel by voxel, in the space of their source."""

from dataclasses import replace
from pathlib import Path

import dicoms
import highdicom as hd
import numpy as np
import phantoms
import pydicom
import pytest
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from veilseg.bundle import ClientManifest, Label, open_client_half
from veilseg.errors import GeometryMismatch, InvalidImage, OutputNotWritable
from veilseg.imaging import dicom, formats
from veilseg.imaging.dicom_references import category_of, code_of
from veilseg.imaging.dicom_segmentation import read_segmentation, write_segmentation
from veilseg.imaging.volume import LabelMap

TRUTH = np.pad(phantoms.truth(), ((0, 0), (0, 0), (2, 1)))
RAW = phantoms.raw_image(TRUTH)
AFFINE = dicoms.oblique(4)
CODE = {"value": "5366008", "scheme": "SCT", "meaning": "Hippocampus"}
LABELS = (Label(0, "background"), Label(1, "Grünrand\\innen"), Label(2, "core", CODE))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> ClientManifest:
    bundle = phantoms.make_bundle(tmp_path_factory.mktemp("bundle") / "plain", "plain")
    return replace(open_client_half(bundle).manifest, labels=LABELS)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return dicoms.write_series(tmp_path / "series", RAW, AFFINE)


def on_grid_of(source: Path, array: np.ndarray) -> LabelMap:
    return LabelMap(array, dicom.read_header(source)[1])


def require_same(found: LabelMap, expected: LabelMap) -> None:
    np.testing.assert_array_equal(found.array, expected.array)
    # In the plane, the third column is the thickness of the slice and places nothing.
    columns = [*range(expected.array.ndim), 3]
    places, wanted = (labels.geometry.affine[:, columns] for labels in (found, expected))
    np.testing.assert_allclose(places, wanted, rtol=0, atol=1e-5)
    assert found.geometry.third_axis == expected.geometry.third_axis


@pytest.mark.parametrize("kind", ["binary", "labelmap"])
@pytest.mark.parametrize("content", ["both", "one", "none"])
def test_round_trip(tmp_path, manifest, series, kind, content):
    array = TRUTH if content == "both" else np.where(TRUTH == 2, 2, 0).astype(np.uint8)
    labels = on_grid_of(series, array if content != "none" else np.zeros_like(array))
    out = tmp_path / "out.dcm"
    write_segmentation(out, labels, [series], manifest, kind)
    require_same(read_segmentation(out), labels)
    written = pydicom.dcmread(out)
    source = pydicom.dcmread(next(series.iterdir()))
    assert written.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert written.StudyInstanceUID == source.StudyInstanceUID
    assert written.SeriesInstanceUID != source.SeriesInstanceUID
    # Empty frames are kept: each slice, for each label.
    assert written.NumberOfFrames == TRUTH.shape[2] * (2 if kind == "binary" else 1)
    (referenced,) = written.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == source.SeriesInstanceUID
    instances = {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence}
    assert instances == {pydicom.dcmread(file).SOPInstanceUID for file in series.iterdir()}


def test_each_frame_refers_to_the_slice_it_lies_on(tmp_path, manifest, series):
    out = tmp_path / "out.dcm"
    write_segmentation(out, on_grid_of(series, TRUTH), [series], manifest)
    places = {}
    for file in series.iterdir():
        source = pydicom.dcmread(file)
        places[source.SOPInstanceUID] = np.array(source.ImagePositionPatient, dtype=float)
    frames = pydicom.dcmread(out).PerFrameFunctionalGroupsSequence
    assert len(frames) == 2 * len(places)
    for frame in frames:
        (derivation,) = frame.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        found = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        np.testing.assert_allclose(found, places[source.ReferencedSOPInstanceUID], atol=1e-9)


def test_segments_say_what_they_are_and_what_found_them(tmp_path, manifest, series):
    out = tmp_path / "out.dcm"
    write_segmentation(out, on_grid_of(series, TRUTH), [series], manifest)
    found = hd.seg.segread(out)
    shell, core = (found.get_segment_description(number) for number in (1, 2))
    assert (shell.segment_label, core.segment_label) == ("Grünrand/innen", "core")
    assert core.segmented_property_type == hd.sr.CodedConcept("5366008", "SCT", "Hippocampus")
    assert shell.segmented_property_type.scheme_designator == "99VEILSEG"
    assert core.segmented_property_category.meaning == "Anatomical Structure"
    assert shell.segmented_property_category.meaning == "Tissue"
    for segment in (shell, core):
        assert segment.algorithm_type.value == "AUTOMATIC"
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("phantom-plain", "1")
        assert manifest.bundle_id in str(algorithm.AlgorithmParameters)


@pytest.mark.parametrize(
    ("value", "scheme", "category"),
    [
        ("5366008", "SCT", "Anatomical Structure"),
        ("35764002", "SCT", "Anatomical Structure"),  # brain ventricle
        ("389081007", "SCT", "Anatomical Structure"),  # grey matter
        ("87612001", "SCT", "Tissue"),  # blood
        ("78014005", "SCT", "Body Substance"),  # urine
        ("108369006", "SCT", "Morphologically Abnormal Structure"),  # neoplasm
        ("119297000", "SCT", "Tissue"),  # a specimen, which no group lists
        ("5366008", "99VEILSEG", "Tissue"),
    ],
)
def test_categories_are_those_of_dicoms_context_groups(value, scheme, category):
    assert category_of(Code(value, scheme, "whatever it is called")).meaning == category


def test_codes_of_labels():
    assert code_of(LABELS[2]) == Code("5366008", "SCT", "Hippocampus")
    assert code_of(LABELS[1]) == Code("1", "99VEILSEG", "Grünrand/innen")
    # Half a code is none.
    assert code_of(Label(3, "x", {"value": "7"})) == Code("3", "99VEILSEG", "x")


def test_nothing_of_the_patient_is_copied_that_need_not_be(tmp_path, manifest, series):
    out = tmp_path / "out.dcm"
    write_segmentation(out, on_grid_of(series, TRUTH), [series], manifest)
    written = pydicom.dcmread(out)
    assert written.PatientName == dicoms.PATIENT
    assert {element.keyword for element in written.group_dataset(0x0010)} == {
        "PatientName",
        "PatientID",
        "PatientBirthDate",
        "PatientSex",
    }
    content = out.read_bytes()
    for secret in (b"055Y", b"allergic", b"for a reason", b"A clinic", b"MR1"):
        assert secret in next(series.iterdir()).read_bytes()
        assert secret not in content


def test_sources_of_all_kinds(tmp_path, manifest):
    order = np.random.default_rng(2).permutation(RAW.shape[2])
    many = tmp_path / "many.dcm"
    dicoms.enhanced(RAW, AFFINE, order).save_as(many, enforce_file_format=True)
    compressed = dicoms.slices(RAW, AFFINE)
    for dataset in compressed:
        dataset.compress(RLELossless, generate_instance_uid=False)
    bare = dicoms.slices(RAW, AFFINE)
    for dataset in bare:
        for name in ("PatientName", "PatientBirthDate", "StudyID", "SliceThickness", "StudyTime"):
            delattr(dataset, name)
    big = dicoms.slices(RAW, AFFINE, syntax=ExplicitVRBigEndian)
    plane = dicoms.slices(RAW[:, :, 6:7], AFFINE)
    sources = [many]
    for name, datasets in {"rle": compressed, "bare": bare, "big": big, "plane": plane}.items():
        sources.append(dicoms.write(tmp_path / name, datasets))
    for source in sources:
        array = TRUTH[:, :, 6] if source.name == "plane" else TRUTH
        labels = on_grid_of(source, array)
        out = tmp_path / f"{source.name}-out.dcm"
        formats.write_segmentation(out, labels, [source], manifest)
        require_same(formats.read_label_map(out), labels)


def test_further_channels_are_sources_too(tmp_path, manifest):
    options = {"space": "1.2.3", "study": "1.2.4"}
    files = [
        dicoms.write_series(tmp_path / name, RAW, AFFINE, **options) for name in ("one", "two")
    ]
    out = tmp_path / "out.dcm"
    write_segmentation(out, on_grid_of(files[0], TRUTH), files, manifest)
    referenced = {item.SeriesInstanceUID for item in pydicom.dcmread(out).ReferencedSeriesSequence}
    series = {pydicom.dcmread(next(file.iterdir())).SeriesInstanceUID for file in files}
    assert referenced == series
    require_same(read_segmentation(out), on_grid_of(files[0], TRUTH))


def test_a_segmentation_beside_its_source_is_no_part_of_it(tmp_path, manifest, series):
    labels = on_grid_of(series, TRUTH)
    out = series / "labels.dcm"
    write_segmentation(out, labels, [series], manifest)
    np.testing.assert_array_equal(dicom.read_image([series]).array[0], RAW)
    with pytest.raises(InvalidImage, match=r"labels\.dcm: is a segmentation, not an image"):
        dicom.read_image([out])


def test_labels_of_another_grid_are_not_written(tmp_path, manifest, series):
    labels = on_grid_of(series, TRUTH)
    other = dicoms.write_series(tmp_path / "other", RAW, dicoms.oblique(5))
    with pytest.raises(GeometryMismatch, match=r"out\.dcm: lies .* mm off the grid of .*other"):
        write_segmentation(tmp_path / "out.dcm", labels, [other], manifest)
    assert not (tmp_path / "out.dcm").exists()


def test_what_cannot_be_written(tmp_path, manifest, series, disk_full):
    labels = on_grid_of(series, TRUTH)
    before = set(tmp_path.iterdir())
    with pytest.raises(OutputNotWritable, match=r"out\.nii: .* must end in \.dcm"):
        write_segmentation(tmp_path / "out.nii", labels, [series], manifest)
    bad = dicoms.slices(RAW, AFFINE)
    for dataset in bad:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.3.4"
    strange = dicoms.write(tmp_path.parent / f"{tmp_path.name}-strange", bad)
    line = (
        r"out\.dcm: no segmentation can refer to the header of .*strange \(KeyError\); write NIfTI"
    )
    out = tmp_path / "out.dcm"
    with pytest.raises(OutputNotWritable, match=line):
        write_segmentation(out, on_grid_of(strange, TRUTH), [strange], manifest)
    with pytest.raises(OutputNotWritable, match=line):
        formats.require_source(out, [strange], manifest)
    formats.require_source(tmp_path / "out.nii.gz", [strange], manifest)
    for missing in ("StudyInstanceUID", "SOPInstanceUID"):
        bad = dicoms.slices(RAW, AFFINE)
        for dataset in bad:
            delattr(dataset, missing)
        folder = dicoms.write(tmp_path.parent / f"{tmp_path.name}-{missing}", bad)
        with pytest.raises(OutputNotWritable, match=r"\(AttributeError\); write NIfTI"):
            formats.require_source(out, [folder], manifest)
    formats.require_source(out, [series], manifest)
    disk_full()
    with pytest.raises(OutputNotWritable, match="No space left"):
        write_segmentation(tmp_path / "out.dcm", labels, [series], manifest)
    assert set(tmp_path.iterdir()) == before


def test_what_is_no_segmentation(tmp_path, manifest, series):
    with pytest.raises(InvalidImage, match="no such file"):
        read_segmentation(tmp_path / "missing.dcm")
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(InvalidImage, match=r"text\.dcm: not a DICOM file"):
        read_segmentation(tmp_path / "text.dcm")
    with pytest.raises(InvalidImage, match="not a DICOM segmentation"):
        read_segmentation(next(series.iterdir()))
    out = tmp_path / "out.dcm"
    write_segmentation(out, on_grid_of(series, TRUTH), [series], manifest)
    whole = out.read_bytes()
    out.write_bytes(whole[:-40])
    with pytest.raises(InvalidImage, match=r"out\.dcm: damaged, or its segments overlap"):
        read_segmentation(out)
    out.write_bytes(whole)
    fractional = pydicom.dcmread(out)
    fractional.SegmentationType = "FRACTIONAL"
    fractional.save_as(out)
    with pytest.raises(InvalidImage, match="is fractional; a binary or labelmap one"):
        read_segmentation(out)


def test_segments_that_overlap_are_refused(tmp_path, manifest, series):
    out = tmp_path / "out.dcm"
    write_segmentation(out, on_grid_of(series, TRUTH), [series], manifest)
    written = pydicom.dcmread(out)
    written.SegmentsOverlap = "YES"
    written.PixelData = bytes([255]) * len(written.PixelData)
    written.save_as(out)
    with pytest.raises(InvalidImage, match=r"its segments overlap"):
        read_segmentation(out)
