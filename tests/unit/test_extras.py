"""Optional packages that are missing are named before the work begins."""

import pytest

from jomni.errors import JomniError
from jomni.extras import missing, require


def test_what_is_missing_is_named_with_its_extra():
    assert missing("json", "no_such_module") == ["no_such_module"]
    require("eval", "json")
    with pytest.raises(JomniError, match=r"no_such_module.*pip install 'jomni\[eval\]'"):
        require("eval", "json", "no_such_module")
