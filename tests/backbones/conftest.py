import pytest
import tiny_bases

import unicond


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """{family: folder} of a tiny base each."""
    root = tmp_path_factory.mktemp("families")
    return {kind: tiny_bases.save(kind, root / kind) for kind in tiny_bases.FAMILIES}


@pytest.fixture(scope="session")
def models(bases):
    return {kind: unicond.load(folder) for kind, folder in bases.items()}
