"""`NamedTuple` for what a prolog imports: typing's own takes half a bare start of Python to import, and more to use."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    from operator import itemgetter

    class _Maker(type):
        """Makes a class of named values from what stands in its body."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> type:
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body[field] for field in fields if field in body}
            getters = {field: property(itemgetter(place)) for place, field in enumerate(fields)}
            own = {"__slots__": (), "_fields": fields, "_field_defaults": defaults}
            return super().__new__(cls, name, bases, {**body, **getters, **own})

    class NamedTuple(tuple, metaclass=_Maker):
        """A tuple whose values have names: `typing.NamedTuple`, as far as it is used here."""

        def __new__(cls, *values: Any, **named: Any) -> NamedTuple:
            if named or len(values) != len(cls._fields):
                values = cls._complete(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _complete(cls, values: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
            """Give all values in their order, or raise TypeError as a function's call does."""
            rest = cls._fields[len(values) :]
            given = {**cls._field_defaults, **named}
            missing = [field for field in rest if field not in given]
            unknown = [field for field in named if field not in rest]
            if missing or unknown or len(values) > len(cls._fields):
                raise TypeError(
                    f"{cls.__name__} has {', '.join(cls._fields)}: {len(values)} were given by their place, "
                    f"missing: {', '.join(missing)}; unknown, or there twice: {', '.join(unknown)}"
                )
            return (*values, *[given[field] for field in rest])

        def _replace(self, **changes: Any) -> NamedTuple:
            return type(self)(**{**self._asdict(), **changes})

        def _asdict(self) -> dict[str, Any]:
            return dict(zip(self._fields, self))

        def __getnewargs__(self) -> tuple[Any, ...]:
            return tuple(self)  # for copy and pickle

        def __repr__(self) -> str:
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"


__all__ = ["NamedTuple"]
