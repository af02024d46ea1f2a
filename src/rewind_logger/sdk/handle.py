"""What a copy of an open run is."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from rewind_logger.types import RunRef

H = TypeVar("H", bound="Handle")


class Handle:
    """Stands for a run that is open in this process: a copy is the same, and no other process can be given it.

    A model that holds its run can so be copied, as those do who average weights.
    """

    _ref: RunRef

    def __copy__(self: H) -> H:
        return self

    def __deepcopy__(self: H, memo: dict[int, Any]) -> H:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        # A TypeError, which those expect who try whether something can be pickled, such as Lightning.
        raise TypeError(
            f"Run {self._ref} cannot be pickled, nor be given to another process, for it has one writer: this process. "
            "There, open a run of its own with init(group=...), or send back what is to be logged. To read it, "
            "open_store(...).run(...) can be pickled."
        )
