"""Two purposes with one number would wait for each other, or refuse each other's work."""

from recstream.db import advisory_locks


def test_every_lock_has_a_number_of_its_own() -> None:
    numbers = [value for name, value in vars(advisory_locks).items() if name.isupper()]
    assert len(numbers) >= 5
    assert len(set(numbers)) == len(numbers)
