"""Check datasets against a method before any weights are loaded."""

import random
from collections.abc import Iterable, Mapping, Sequence

from editkit.config import Options
from editkit.data.buckets import inputs_of
from editkit.data.datasets import CheckedDataset, Dataset, dataset
from editkit.data.records import MixedConfig, Record
from editkit.errors import EditkitError
from editkit.method import Method
from editkit.train import validation
from editkit.train.settings import EditTrainConfig

TRIED = 64
"""Most records of a dataset that are looked at until one suits; random ones of a larger dataset."""


def datasets(
    mixture: Mapping[str, MixedConfig], method: Method[Options], options: Options
) -> dict[str, Dataset]:
    """Create the datasets of a run, and check that a method can learn from each.

    Args:
        mixture: the datasets by the settings that describe them, such as `data`.
        method: the method.
        options: of the method.

    Raises:
        EditkitError: where none of the records that are looked at can be read and suits the method.
    """
    found = {name: dataset(mixed.data) for name, mixed in mixture.items()}
    for name, records in found.items():
        checked, count = CheckedDataset(records), len(records)
        # Random places, since rows of one sort may stand at regular distances.
        tried = range(count) if count <= TRIED else random.Random(0).sample(range(count), TRIED)
        _check(name, (checked[place] for place in tried), method, options)
    return found


def held_out(settings: EditTrainConfig, method: Method[Options], options: Options) -> Sequence[Record] | None:
    """Load the records that a run validates with; None where it does not validate.

    Raises:
        EditkitError: where none can be read and suits the method.
    """
    if not settings.fit.validate_every:
        return None
    records = validation.held_out(settings.validation, settings.data)
    _check("the validation", records, method, options)
    return records


def _check(name: str, records: Iterable[Record | str], method: Method[Options], options: Options) -> None:
    """Refuse records of which none suits the method; sentences stand in place of bad ones."""
    problems = []
    for record in records:
        problem = _problem(record, method, options)
        if problem is None:
            return
        problems.append(problem)
    if problems:
        raise EditkitError(f"None of {len(problems)} records of {name} suits {method.name}: {problems[0]}")


def _problem(record: Record | str, method: Method[Options], options: Options) -> str | None:
    """Say why a record does not suit; None where it does."""
    if isinstance(record, str):
        return record
    try:
        method.conditioner.check_inputs(inputs_of(record), options)
    except EditkitError as error:
        return str(error)
    return None
