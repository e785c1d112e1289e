"""The kind of a client, and the name of a browser, by the header User-Agent."""

from __future__ import annotations

from quilt_registry.audit import Client

# The first match counts: most browsers also name those that came before them.
_BROWSERS = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("HeadlessChrome/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser_name(user_agent: str) -> str:
    """Return a name such as `Firefox on Linux`; "" if the browser is unknown."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if browser and system else browser


def client_of(user_agent: str) -> Client:
    """Return the kind of a client: released clients name themselves, and so do browsers."""
    if user_agent.startswith("quilt-cli/"):
        return "cli"
    return "web" if user_agent.startswith("Mozilla/") else "other"
