"""The faults of a request's rows, collected and raised as one error."""

from collections.abc import Collection, Iterator
from functools import cached_property
from itertools import islice

from model_api.model.errors import InvalidRows
from model_api.model.untyped import JsonObject
from model_api.model.words import clean

ERRORS_SHOWN = 20
_NAMES_COMPARED, _LONGEST_COMPARED = 500, 100
_IGNORED = str.maketrans("", "", " _-.")


class Faults:
    """The faults of a request's rows: the first ones, and the number of all."""

    def __init__(self) -> None:
        self.shown: list[JsonObject] = []
        self.count = 0

    def add(self, row: int | None, name: str | None, detail: str) -> None:
        """Note a fault; row is None if a whole column is wrong, name is None if a whole row is."""
        self.count += 1
        if self.count <= ERRORS_SHOWN:
            self.shown.append(
                {"row": row, "field": None if name is None else clean(name), "detail": detail}
            )

    def add_unknown(self, row: int | None, given: Collection[str], names: "Names") -> None:
        """Note the given names that are not inputs, of which there may be very many."""
        count = self.count + len(given) - sum(name in given for name in names)
        unknown = (name for name in given if name not in names)
        for name in islice(unknown, max(0, ERRORS_SHOWN - self.count)):
            self.add(row, name, f"is not an input of this model{names.near(name)}")
        self.count = count

    @property
    def full(self) -> bool:
        """Whether further faults are only counted, not shown."""
        return self.count >= ERRORS_SHOWN

    def raise_any(self) -> None:
        """Raise InvalidRows with all noted faults, if there are any."""
        if self.count:
            raise InvalidRows(self.shown, self.count)


class Names(frozenset[str]):
    """The names of a model's inputs, with a search for the one that a wrong name may mean.

    Names are similar if they differ by at most one character, ignoring case, blanks and ``_``,
    ``-`` and ``.``. This takes a few look-ups per wrong name, independent of the number of inputs:
    a body may have as many wrong names as fit into it.
    """

    def near(self, name: str) -> str:
        """Return the end of a sentence that suggests a similar name; empty if there is none."""
        for variant in _variants(name):
            if variant in self._by_variant:
                return f". Did you mean {self._by_variant[variant]!r}?"
        return ""

    @cached_property
    def _by_variant(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in sorted(self)[:_NAMES_COMPARED]:
            for variant in _variants(name):
                found.setdefault(variant, name)
        return found


def _variants(name: str) -> Iterator[str]:
    """Yield the forms of a name to compare: the whole name, and the name without each character."""
    if len(name) > _LONGEST_COMPARED:
        return
    plain = name.casefold().translate(_IGNORED)
    yield plain
    for place in range(len(plain)) if len(plain) > 2 else ():
        yield plain[:place] + plain[place + 1 :]
