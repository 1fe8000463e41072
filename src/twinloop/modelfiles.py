"""Model files: a fitted estimator, or several in a blend, as files of data."""

import hashlib
from collections.abc import Mapping
from typing import Any

from twinloop.archive import stable_archive
from twinloop.blend import Blend
from twinloop.candidates import Predictor
from twinloop.errors import RegistryError

# What a scikit-learn model file may name besides skops' own defaults. Nothing else is loaded.
TRUSTED_TYPES = (
    "numpy.dtype",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "twinloop.seasonal.SeasonalNaive",
    "twinloop.kernel.KernelMachine",
    # With categories, HistGradientBoosting holds its own check of arrays, some arguments given.
    # What a partial calls must be trusted by itself.
    "functools.partial",
    "sklearn.utils.validation.check_array",
)
_ENDINGS = {"xgboost": "ubj", "sklearn": "skops"}


def write_model(predictor: Predictor) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Write a fitted model: what there is to know of its files, and these.

    Returns
    -------
    tuple of (dict, dict of str to bytes)
        One file ``model.ubj`` (XGBoost) or ``model.skops`` (scikit-learn); of a blend one for each
        member, ``member-0.ubj`` say.
    """
    if not isinstance(predictor.model, Blend):
        return _write_one(predictor, "model")
    blend, members = predictor.model, []
    files: dict[str, bytes] = {}
    for i, member in enumerate(blend.members):
        about, written = _write_one(member, f"member-{i}")
        counts: dict[str, Any] = {"name": blend.names[i], "weight": blend.weights[i]}
        # Written where it does something: blends without have the files they always had.
        if blend.powers and blend.powers[i] != 1.0:
            counts["power"] = blend.powers[i]
        members.append(counts | about)
        files |= written
    about = {"library": predictor.library, "n_classes": predictor.n_classes}
    return about | {"floor": blend.floor, "members": members}, files


def _write_one(predictor: Predictor, stem: str) -> tuple[dict[str, Any], dict[str, bytes]]:
    if predictor.library == "xgboost":
        content = bytes(predictor.model.save_raw("ubj"))
    else:
        from skops import io as skops_io

        content = stable_archive(skops_io.dumps(predictor.model))
    about = {
        "library": predictor.library,
        "n_classes": predictor.n_classes,
        "model_sha256": hashlib.sha256(content).hexdigest(),
    }
    return about, {f"{stem}.{_ENDINGS[predictor.library]}": content}


def read_model(
    about: Mapping[str, Any], files: Mapping[str, bytes], trusted: tuple[str, ...]
) -> Predictor:
    """Read back what `write_model` wrote.

    Parameters
    ----------
    about, files
        As written; of `about` other keys are not looked at, nor other files of `files`.
    trusted
        Types a scikit-learn file may name besides `TRUSTED_TYPES`.

    Raises
    ------
    RegistryError
        If a file is not the one described, or names a type that is not trusted, or one that cannot
        be imported.
    KeyError, TypeError, ValueError
        If something is missing or of another kind.
    """
    if about["library"] != "ensemble":
        return _read_one(about, files, trusted, "model")
    members = about["members"]
    powers = tuple(float(m.get("power", 1.0)) for m in members)
    blend = Blend(
        tuple(str(m["name"]) for m in members),
        tuple(_read_one(m, files, trusted, f"member-{i}") for i, m in enumerate(members)),
        tuple(float(m["weight"]) for m in members),
        about["floor"],
        powers if any(power != 1.0 for power in powers) else (),
    )
    return Predictor("ensemble", blend, about["n_classes"])


def _read_one(
    about: Mapping[str, Any], files: Mapping[str, bytes], trusted: tuple[str, ...], stem: str
) -> Predictor:
    library = about["library"]
    name = f"{stem}.{_ENDINGS[library]}"
    content, n_classes = files[name], about["n_classes"]
    # XGBoost aborts the process on a broken file: no exception, nothing to catch.
    if hashlib.sha256(content).hexdigest() != about["model_sha256"]:
        raise RegistryError(f"{name!r} is not the file that scorer.json describes: cut or changed.")
    if library == "xgboost":
        import xgboost as xgb

        return Predictor(library, xgb.Booster(model_file=bytearray(content)), n_classes)
    return Predictor(library, _from_skops(content, trusted), n_classes)


def _from_skops(content: bytes, trusted: tuple[str, ...]) -> Any:
    from skops import io as skops_io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops_io.loads(content, trusted=[*TRUSTED_TYPES, *trusted])
    except UntrustedTypesFoundException as err:
        raise RegistryError(
            f"the model file names types that are not trusted: {err}",
            "Those of your own estimators are listed in the workload file, under "
            "training.estimators.<name>.trusted.",
        ) from err
    except (ImportError, AttributeError) as err:
        raise RegistryError(
            f"the model is made of types that cannot be imported here: {err}.",
            "Install the package they come from, in the release it was trained with.",
        ) from err
