import resource
from contextlib import contextmanager

import pytest


@pytest.fixture
def full_disk():
    """`full_disk(bytes)`: inside the block no file can grow beyond so many bytes."""

    @contextmanager
    def limited(count):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
