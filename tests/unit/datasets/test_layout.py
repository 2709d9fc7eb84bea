"""A data set that breaks its layout is refused with the reason."""

import json
from pathlib import Path

import pytest

from veilseg.bundle import Label
from veilseg.datasets.layout import read_dataset, with_codes
from veilseg.errors import InvalidDataset


def refused(folder, reason):
    with pytest.raises(InvalidDataset, match=reason) as caught:
        read_dataset(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def changed(folder, **fields):
    path = folder / "dataset.json"
    known = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({k: v for k, v in known.items() if v is not None}))
    return folder


def test_reads_cases_in_id_order(make_dataset):
    folder = make_dataset(("b", "a", "b"), channels=2)
    dataset = read_dataset(folder)
    assert [case.name for case in dataset.cases] == ["case000", "case001", "case002"]
    assert [case.patient for case in dataset.cases] == ["b", "a", "b"]
    assert dataset.labels == (Label(0, "background"), Label(1, "core"))
    assert dataset.channels == ("channel 0", "channel 1")
    assert [path.name for path in dataset.cases[0].images] == [
        "case000_0000.nii.gz",
        "case000_0001.nii.gz",
    ]


def test_without_cases_csv_each_case_is_a_patient(make_dataset):
    dataset = read_dataset(make_dataset(csv=False))
    assert [case.patient for case in dataset.cases] == ["case000", "case001", "case002"]


def test_folder_without_dataset_json(tmp_path):
    refused(tmp_path, "no dataset.json")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"text"', "{}", "null"])
def test_dataset_json_that_is_none(make_dataset, text):
    folder = make_dataset()
    (folder / "dataset.json").write_text(text)
    refused(folder, "malformed")


def test_dataset_json_that_is_no_text(make_dataset):
    folder = make_dataset()
    (folder / "dataset.json").write_bytes(b"\xff\xfe\x00")
    refused(folder, "malformed")


@pytest.mark.parametrize("field", ["channel_names", "labels", "file_ending"])
def test_dataset_json_without_a_field(make_dataset, field):
    refused(changed(make_dataset(), **{field: None}), f"malformed: KeyError: '{field}'")


@pytest.mark.parametrize(
    "fields",
    [
        {"channel_names": {"1": "T1"}},
        {"channel_names": ["T1"]},
        {"labels": ["background", "core"]},
        {"labels": {"background": 0, "core": "one"}},
        {"labels": {"background": 0, "core": [1, 2]}},
    ],
)
def test_dataset_json_with_a_field_of_another_kind(make_dataset, fields):
    refused(changed(make_dataset(), **fields), "malformed")


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0},
        {"background": 0, "core": 2},
        {"core": 1, "rim": 2},
        {"background": 0, "core": 1, "rim": 1},
        {"background": 0, "ignored": -1},
    ],
)
def test_labels_with_gaps(make_dataset, labels):
    refused(changed(make_dataset(), labels=labels), "labels: must be 0")


def test_no_image_with_the_ending(make_dataset):
    refused(changed(make_dataset(), file_ending=".png"), "no image ends in _0000.png")


def test_ending_that_nothing_reads(make_dataset):
    refused(
        changed(make_dataset(), file_ending=".mha"),
        r"file_ending: \.mha is none of \.nii\.gz, \.nii, \.png",
    )


@pytest.mark.parametrize("file", ["labelsTr/case001.nii.gz", "imagesTr/case001_0001.nii.gz"])
def test_missing_file_is_named_with_its_case(make_dataset, file):
    folder = make_dataset(channels=2)
    (folder / file).unlink()
    refused(folder, f"{Path(file).name}: missing for case case001")


def test_cases_csv_without_a_case(make_dataset):
    folder = make_dataset()
    path = folder / "cases.csv"
    path.write_text(path.read_text().replace("case001,b\n", ""))
    refused(folder, "no patient for case case001")


def test_cases_csv_with_an_empty_patient(make_dataset):
    folder = make_dataset(("a", "", "c"))
    refused(folder, "no patient for case case001")


@pytest.mark.parametrize("text", ["", "case\ncase000\n", "name,person\ncase000,a\n"])
def test_cases_csv_without_its_columns(make_dataset, text):
    folder = make_dataset()
    (folder / "cases.csv").write_text(text)
    refused(folder, "needs the columns case and patient")


def test_cases_csv_as_spreadsheets_write_it(make_dataset):
    folder = make_dataset(("a", "b", "c"))
    path = folder / "cases.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert [case.patient for case in read_dataset(folder).cases] == ["a", "b", "c"]


def test_cases_csv_that_is_no_text(make_dataset):
    folder = make_dataset()
    (folder / "cases.csv").write_bytes(b"case,patient\n\xff\xfe\x00,b\n")
    refused(folder, "cases.csv")


def test_content_hash_names_the_data(make_dataset):
    folder = make_dataset()
    before = read_dataset(folder).content_hash()
    assert read_dataset(folder).content_hash() == before
    label = folder / "labelsTr" / "case001.nii.gz"
    label.write_bytes(label.read_bytes() + b"\0")
    assert read_dataset(folder).content_hash() != before


PROSTATE = {"value": "41216001", "scheme": "SCT", "meaning": "Prostate"}


def test_labels_have_the_codes_that_are_given(make_dataset):
    folder = make_dataset()
    name = read_dataset(folder).labels[1].name
    labels = read_dataset(changed(folder, label_codes={name: PROSTATE})).labels
    assert labels[1].code == PROSTATE
    assert all(label.code is None for label in labels if label.name != name)


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        ([], "must name labels"),
        ({"spleen": PROSTATE}, "spleen: no such label"),
        ({"background": "41216001"}, "needs value, scheme, meaning"),
        ({"background": PROSTATE | {"version": "1"}}, "nothing else"),
        ({"background": PROSTATE | {"value": "4" * 17}}, "value: must be text of 1 to 16"),
        ({"background": PROSTATE | {"value": 41216001}}, "value: must be text"),
        ({"background": PROSTATE | {"meaning": " "}}, "meaning: must be text"),
        ({"background": PROSTATE | {"meaning": "a\\b"}}, "has a backslash"),
    ],
)
def test_code_that_is_none(make_dataset, tmp_path, codes, reason):
    folder, file = make_dataset(), tmp_path / "codes.json"
    file.write_text(json.dumps(codes))
    with pytest.raises(InvalidDataset, match=rf"codes\.json: .*{reason}"):
        with_codes(read_dataset(folder), file)
    refused(changed(folder, label_codes=codes), reason)


def test_codes_of_a_file_of_their_own(make_dataset, tmp_path):
    dataset = read_dataset(make_dataset())
    file = tmp_path / "codes.json"
    for no_codes in ("{", None):
        if no_codes:
            file.write_text(no_codes)
        with pytest.raises(InvalidDataset, match="no file of label codes"):
            with_codes(dataset, file)
        file.unlink(missing_ok=True)
    file.write_text(json.dumps({dataset.labels[1].name: PROSTATE}))
    coded = with_codes(dataset, file)
    assert coded.labels[1].code == PROSTATE
    assert coded.content_hash() == dataset.content_hash()
