"""Names of nodes that links to files mean."""

from __future__ import annotations

import pytest

from quilt_registry.packages.file_links import node_names


@pytest.mark.parametrize(
    ("name", "is_folder", "names"),
    [
        ("a-b.png", False, ["a-b.png", "a_b", "a_b_png"]),
        ("9 files.txt", False, ["9 files.txt", "n9_files", "n9_files_txt"]),
        ("class.csv", False, ["class.csv", "class_", "class_csv"]),
        ("README.md", False, ["README.md", "README", "README_md"]),
        (".hidden", False, [".hidden", "hidden"]),
        ("LICENSE", False, ["LICENSE"]),
        ("v1.0", True, ["v1.0", "v1_0"]),
    ],
)
def test_a_file_name_leads_to_the_name_that_a_build_makes_of_it(name: str, is_folder: bool, names: list[str]) -> None:
    assert node_names(name, is_folder=is_folder) == names
