"""The file beside a checkpoint that answers "which threshold?"."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mmarcface.atomic_files import replacing
from mmarcface.functional.calibration import MEASURES, Calibration


@dataclass(frozen=True)
class Thresholds:
    """What a file of thresholds holds.

    Attributes:
        model: fingerprint of the model that they hold for.
        contract: contract of that model, see :class:`mmarcface.manifest.Manifest`; empty in older
            files.
        sets: the thresholds by name of the set of pairs that they were chosen on.
    """

    model: str
    contract: dict
    sets: dict[str, list[Calibration]]


def thresholds_file(checkpoint: str | Path) -> Path:
    """Where the thresholds of a checkpoint are: ``epoch_20.thresholds.json`` of ``epoch_20.pth``.

    Args:
        checkpoint: path of the checkpoint.
    """
    return Path(f'{str(checkpoint).removesuffix(".pth")}.thresholds.json')


def save_thresholds(path: str | Path, thresholds: Thresholds) -> None:
    """Write thresholds as JSON; an existing file is replaced whole or not at all.

    What it has of the same model on other sets is kept.

    Args:
        path: the file.
        thresholds: the thresholds of a model.
    """
    sets = thresholds.sets
    try:
        known = load_thresholds(path)
    except (FileNotFoundError, ValueError):
        known = thresholds
    if known.model == thresholds.model:
        sets = known.sets | sets
    content = {
        'rule': 'two images show one identity where the cosine of their embeddings is at least '
        'the threshold, or their distance as unit vectors at most that given as l2',
        'model': thresholds.model,
        'contract': thresholds.contract,
        'sets': {
            name: [
                asdict(calibration)
                | {m: calibration.threshold_as(m) for m in MEASURES if m != 'cosine'}
                | dict(note=calibration.note)
                for calibration in found
            ]
            for name, found in sets.items()
        },
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=2))


def load_thresholds(path: str | Path) -> Thresholds:
    """Read what :func:`save_thresholds` wrote.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: if there is no such file; it says how to make one.
        ValueError: if the file is damaged or something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'{path} does not exist: python tools/test.py CONFIG CHECKPOINT writes it beside the '
            'checkpoint, with a config that has VerificationMetric'
        )
    names = [field.name for field in fields(Calibration)]
    try:
        content = json.loads(Path(path).read_text())
        sets = {
            name: [Calibration(**{key: _read(entry[key]) for key in names}) for entry in entries]
            for name, entries in content['sets'].items()
        }
        return Thresholds(content['model'], content.get('contract', {}), sets)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} holds no thresholds that tools/test.py wrote ({type(error).__name__}: {error})'
        ) from None


def _read(value: float | list[float]) -> float | tuple[float, ...]:
    """Intervals are tuples, for which JSON has lists."""
    return tuple(value) if isinstance(value, list) else value


def choose_threshold(
    calibrations: dict[str, list[Calibration]], far: float | None, benchmark: str | None, path: str
) -> Calibration:
    """The threshold of a FAR and a set of pairs.

    Args:
        calibrations: the thresholds by name of the set of pairs.
        far: the FAR of the threshold; by default the lowest with enough pairs, or the highest
            where none has enough.
        benchmark: name of the set; None will do where there is only one.
        path: the file that the thresholds are from, for errors.

    Raises:
        ValueError: if there is no such threshold; it says which there are.
    """
    if benchmark is None and len(calibrations) == 1:
        (benchmark,) = calibrations
    if benchmark not in calibrations:
        raise ValueError(
            f'benchmark must be one of {list(calibrations)} in {path}, got {benchmark}'
        )
    found = sorted(calibrations[benchmark], key=lambda calibration: calibration.wanted_far)
    if far is None and found:
        return next((one for one in found if one.note is None), found[-1])
    for calibration in found:
        if calibration.wanted_far == far:
            return calibration
    raise ValueError(
        f'far must be one of {[one.wanted_far for one in found]} in {path}, got {far!r}: add it to '
        'far of VerificationMetric and run tools/test.py again'
    )
