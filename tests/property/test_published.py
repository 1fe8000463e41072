"""Published windows: whatever happens to one of their files is found, and the file is named."""

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks import scoring
from tasks import settings as home_settings
from tasks.published import MANIFEST, OWN_MANIFEST, PLACES, Manifest, read_published, read_shadow
from tasks.settings import load_workload
from tasks.verifying import Verification, verify_published
from tests.windows import WORKLOAD, dirty_orders, loaded, make_home, publish
from twinloop.errors import StorageError

FLIPS = 1_000
PARTS = 4
READS = {"pyarrow": "ParquetDataset", "pandas": "read_parquet(home"}
SHADOWED = WORKLOAD.replace("part_rows: 50", "part_rows: 250, shadow: 0.3, explanations: 2")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manifest]:
    """Publish a window of several parts, each with a quarantine and a shadow."""
    home = make_home(tmp_path_factory.mktemp("home"), dirty_orders(), SHADOWED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TWINLOOP_HOME", str(home))
        known = home_settings.settings()
        # Read from the environment once, not once a file.
        patch.setattr(home_settings, "Settings", lambda: known)
        model = loaded()
        patch.setattr(scoring, "load_version", lambda *_: model)
        found = publish(challenger=2)
        assert [len(getattr(found, place)) for place in PLACES] == [PARTS] * 3
        yield found


@pytest.fixture
def files(manifest: Manifest) -> Iterator[list[Path]]:
    """List all files of the window; what a test did to them is undone."""
    homes = [manifest.place_of(place).parent for place in PLACES]
    found = [p for home in homes for p in sorted(home.rglob("*")) if p.is_file()]
    kept = {path: path.read_bytes() for path in found}
    yield found
    for home in homes:
        shutil.rmtree(home, ignore_errors=True)
    for path, content in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def verify() -> Verification:
    """Read all again."""
    return verify_published(load_workload("shop"))


def faulty() -> set[Path]:
    """Return the files that are not as they were written."""
    return {fault.path for fault in verify().faults}


def test_what_is_whole_is_found_whole(manifest: Manifest, files: list[Path]) -> None:
    """Every file but the manifests is counted, every byte and every row."""
    found = verify()
    counted = [p for p in files if p.name not in (MANIFEST, OWN_MANIFEST)]
    assert found.faults == ()
    assert (found.outputs, found.files, found.rows) == (1, 3 * PARTS + 1, manifest.scored)
    assert found.files == len(counted)
    assert found.size == sum(p.stat().st_size for p in counted)


def test_any_flipped_bit_is_found(files: list[Path]) -> None:
    """In either manifest, profile, predictions, quarantine or shadow; the file is named."""
    draw = random.Random(0)  # noqa: S311 - no secret
    missed = []
    for i in range(FLIPS):
        path = files[i % len(files)]
        content = path.read_bytes()
        bit = draw.randrange(8 * len(content))
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        # Where a folder's own manifest is damaged, that of the window cannot be held to it.
        also = {path.parents[1] / MANIFEST} if path.name == OWN_MANIFEST else set()
        if faulty() != {path} | also:
            missed.append((path, bit))
        path.write_bytes(content)
    assert missed == []


def test_a_file_that_is_gone_cut_or_longer_is_found(files: list[Path]) -> None:
    """Each of them, one after the other."""
    for path in files:
        content = path.read_bytes()
        path.unlink()
        assert path in faulty()
        for other in (b"", content[:-1], content[: len(content) // 2], content + b"\n"):
            path.write_bytes(other)
            assert path in faulty()
        path.write_bytes(content)


@pytest.mark.parametrize("place", PLACES)
def test_swapped_parts_are_found(manifest: Manifest, files: list[Path], place: str) -> None:
    """Two sound files that have each other's name are two faults."""
    first, second = (manifest.place_of(place) / f"part-0000{i}.parquet" for i in (0, 1))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    assert faulty() == {first, second}


@pytest.mark.parametrize("place", PLACES)
def test_a_stray_file_is_found(manifest: Manifest, files: list[Path], place: str) -> None:
    """In the folder a reader is sent to, or beside it."""
    folder = manifest.place_of(place)
    strays = {folder / "part-00009.parquet", folder / ".hidden", folder.parent / "notes.txt"}
    for stray in strays:
        stray.write_bytes(files[0].read_bytes())
    assert faulty() == strays


def test_a_folder_that_is_gone_is_found(manifest: Manifest, files: list[Path]) -> None:
    """Of quarantine or shadow all its files are missing; of predictions, what the window tells."""
    for place in PLACES[1:]:
        shutil.rmtree(manifest.place_of(place))
    assert faulty() == {
        manifest.place_of(p) / stored.name for p, stored in manifest.files if p in PLACES[1:]
    } - {manifest.place / manifest.profile.name}
    shutil.rmtree(manifest.place)
    assert faulty() == {manifest.place.parent / MANIFEST}


def test_a_manifest_of_another_window_is_found(manifest: Manifest, files: list[Path]) -> None:
    """A folder that was copied elsewhere whole does not vouch for what it is called now."""
    copy = manifest.place.parent.parent / "20240101T000000_20240102T000000"
    shutil.copytree(manifest.place.parent, copy)
    try:
        assert faulty() == {copy / MANIFEST, copy / manifest.folder / OWN_MANIFEST}
    finally:
        shutil.rmtree(copy)


def test_scoring_again_mends_what_is_damaged(files: list[Path]) -> None:
    """Whichever file it is, as the error says; to the same bytes."""
    wanted = {path: path.read_bytes() for path in files}
    for path, content in wanted.items():
        path.write_bytes(content[:-2] + b"x")
        assert not publish(challenger=2).reused
        assert faulty() == set()
        assert {p: p.read_bytes() for p in files} == wanted
    assert publish(challenger=2).reused


@pytest.mark.parametrize("library", ["pyarrow", "pandas"])
def test_the_page_says_how_to_read_it(
    manifest: Manifest, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands on the page of predictions reads all of them, in their order."""
    page = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.S) if READS[library] in b]
    home = manifest.place.parent
    code = block.replace(
        "data/lake/bikes/predictions/20120101T000000_20120102T000000", home.as_posix()
    )
    found: dict[str, Any] = {}
    exec(code, found)  # noqa: S102 - our own page
    orders = read_published(manifest).column("order").to_pylist()
    read = found[{"pyarrow": "table", "pandas": "frame"}[library]]
    assert list(read["order"].to_numpy()) == orders


def test_a_reader_is_told_of_damage(manifest: Manifest, files: list[Path]) -> None:
    """Reading through the manifest refuses a damaged part by its name."""
    assert read_published(manifest).num_rows == manifest.scored
    for place, read in (("predictions", read_published), ("shadow", read_shadow)):
        path = manifest.place_of(place) / "part-00002.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(StorageError, match=r"part-00002\.parquet.*is damaged: SHA-256"):
            read(manifest)


def test_explanations_are_columns_of_what_is_published(manifest: Manifest) -> None:
    """Two features a row, by their names, the one that matters more first; never in the shadow."""
    said = read_published(manifest)
    answers = ["prediction", "probability"]
    named = ["feature_1", "contribution_1", "feature_2", "contribution_2"]
    assert said.schema.names == ["order", *answers, *named, "model_version", "model_run_id"]
    assert set(said.column("feature_1").to_pylist()) <= {"weight", "kind", "size"}
    first, second = (said.column(f"contribution_{i}").to_numpy() for i in (1, 2))
    assert (abs(first) >= abs(second)).all()
    theirs = read_shadow(manifest)
    assert theirs.schema.names == ["order", *answers]
    assert theirs.schema.field("order").type == pa.int64()
