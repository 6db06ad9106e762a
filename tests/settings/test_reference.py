from pathlib import Path

from asgi_master.settings import reference
from asgi_master.settings.model import SETTINGS

_PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"


def test_the_page_is_fresh():
    assert _PAGE.read_text(encoding="utf-8") == reference.page(), (
        "run: python -m asgi_master.settings.reference > docs/reference/settings.md"
    )


def test_every_setting_is_on_the_page():
    page = reference.page()
    for setting in SETTINGS:
        assert f"\n### {setting.key}\n" in page
        assert f"`{setting.variable}`" in page
