"""A manifest says what it said when it was written, or nothing."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tasks.published import MANIFEST, Manifest, overlapping, published, read_manifest
from tasks.settings import load_workload, settings
from tasks.storage import Stored
from tests.windows import make_home, orders, version
from twinloop.errors import StorageError
from twinloop.shadow import Agreement
from twinloop.window import Window
from twinloop.workload import Workload


def day(number: int) -> Window:
    """Return a day of January."""
    start, end = (datetime(2024, 1, n, tzinfo=UTC) for n in (number, number + 1))
    return Window(start=start, end=end)


def manifest(window: Window | None = None) -> Manifest:
    """Return a manifest with a value in every field."""
    files = [Stored(name=f"part-0000{i}.parquet", rows=9, size=99, sha256="f" * 64) for i in (0, 1)]
    return Manifest(
        workload="shop",
        window=window,
        version=version(),
        folder="v1-0123456789ab",
        fingerprint="a" * 64,
        plan="b" * 64,
        input_digest="c" * 64,
        read=20,
        scored=18,
        quarantined=2,
        predictions=tuple(files),
        quarantine=(files[0],),
        shadow=(files[1],),
        profile=files[0].model_copy(update={"name": "_profile.json", "rows": 0}),
        challenger="2",
        agreement=Agreement(rows=5, refused=1, equal=4, absolute=0.1 + 0.2),
        run_id="run",
    )


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value of a JSON document with its path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from leaves(inner, (*path, key))
    else:
        yield path, value


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, str):
        return "2024-01-01T01:00:00Z" if value.startswith("2024") else value[:-1] + "0"
    return value + 1 if isinstance(value, int | float) else 1


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    """With or without a window; whether it was reused is of the moment, and not written down."""
    path = tmp_path / MANIFEST
    for said in (manifest(), manifest(day(3))):
        path.write_text(said.model_copy(update={"reused": True}).text(), encoding="utf-8")
        assert read_manifest(path) == said
        assert path.read_text(encoding="utf-8") == said.text()


def test_any_value_that_is_another_one_is_found(tmp_path: Path) -> None:
    """However small the change and whatever the field, the digest too."""
    path = tmp_path / MANIFEST
    said = json.loads(manifest(day(3)).text())
    places = list(leaves(said))
    assert len(places) > 45
    for place, value in places:
        changed = json.loads(manifest(day(3)).text())
        *before, last = place
        inner = changed
        for key in before:
            inner = inner[key]
        inner[last] = other(value)
        assert inner[last] != value
        path.write_text(json.dumps(changed, indent=1), encoding="utf-8")
        assert read_manifest(path) is None, place


def test_a_key_that_is_gone_or_new_is_found(tmp_path: Path) -> None:
    """As is a file that is cut, empty, no JSON, no object, no text, or not there."""
    path = tmp_path / MANIFEST
    text = manifest().text()
    said = json.loads(text)
    contents = [json.dumps({k: v for k, v in said.items() if k != key}, indent=1) for key in said]
    contents += [json.dumps(said | {"more": 1}, indent=1), text[:-1], text + "\n", "", "null", "[]"]
    contents += ['{"digest": 1}', "7", json.dumps(said)]
    for content in contents:
        path.write_text(content, encoding="utf-8")
        assert read_manifest(path) is None, content
    path.write_bytes(b"\xff\xfe")
    assert read_manifest(path) is None
    assert read_manifest(tmp_path / "none.json") is None


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """Provide a home in which three days are published, as far as manifests say."""
    monkeypatch.setenv("TWINLOOP_HOME", str(make_home(tmp_path, orders(10))))
    for number in (5, 3, 4):
        found = manifest(day(number))
        home = found.place.parent
        home.mkdir(parents=True)
        (home / MANIFEST).write_text(found.text(), encoding="utf-8")
    return load_workload("shop")


def test_windows_that_share_time_are_found(shop: Workload) -> None:
    """The oldest first; one that ends where the other begins shares none."""
    assert [m.window for m in published(shop)] == [day(3), day(4), day(5)]
    assert [m.window for m in overlapping(shop, day(4))] == [day(4)]
    both = Window(start=day(3).start, end=day(4).end)
    assert [m.window for m in overlapping(shop, both)] == [day(3), day(4)]
    assert len(overlapping(shop, None)) == 3


def test_a_damaged_manifest_is_an_error_that_names_it(shop: Workload) -> None:
    """Whoever reads what is published is not to miss a window in silence."""
    path = manifest(day(4)).place.parent / MANIFEST
    path.write_text(path.read_text().replace('"read": 20', '"read": 21'))
    with pytest.raises(StorageError, match=r"20240104T000000_20240105T000000.*is damaged"):
        published(shop)
    assert settings().lake(shop) in path.parents
