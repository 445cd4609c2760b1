"""The address of a label store, and how to speak of it without its password."""

import os
import re
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from helpers.errors import LabelsError

PASSWORD_VARIABLE = "SINGLE_HITS_STORE_PASSWORD"
"""Environment variable with the password of a server, where the URL has none."""

_SHOWN = {"host", "port", "options", "mode", "immutable"}
_HOW = (
    "Expected a path such as work/labels.sqlite or a SQLAlchemy URL such as "
    "postgresql://name@host/database."
)


def read_url(url_or_path: str | Path) -> sa.URL:
    """Return the address of a store; of a server with the password that is known.

    Parameters
    ----------
    url_or_path
        A path is an SQLite file; anything with `://` in it is a SQLAlchemy URL.

    Raises
    ------
    LabelsError
        It is neither; nothing of it is shown, because it may hold a password.
    """
    text = str(url_or_path)
    if "://" not in text:
        path = Path(url_or_path).expanduser().absolute()
        return sa.URL.create("sqlite", database=str(path))
    url = _parse(text)
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    password = os.environ.get(PASSWORD_VARIABLE)
    if password and url.get_backend_name() != "sqlite" and not _passwords(url):
        url = url.set(password=password)
    return url


def describe_url(url: sa.URL) -> str:
    """Return what may be shown of an address, in files and on screen."""
    if url.get_backend_name() == "sqlite":
        return (url.database or "sqlite://").removeprefix("file:")
    query = {name: value for name, value in url.query.items() if name in _SHOWN}
    return url.set(query=query).render_as_string(hide_password=True)


def hide_passwords(text: str, url: sa.URL) -> str:
    """Return a text, such as that of a driver's error, without the passwords."""
    for password in _passwords(url):
        text = text.replace(password, "***")
    return text


def split_password(url_or_path: str) -> tuple[str, str]:
    """Return an address without its password, and the password, "" where there is none.

    Raises
    ------
    LabelsError
        It cannot be told what the password is.
    """
    if "://" not in url_or_path:
        return url_or_path, ""
    url = _parse(url_or_path)
    passwords = _passwords(url)
    if not passwords:
        return url_or_path, ""
    bare = sa.URL.create(
        url.drivername,
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query={name: each for name, each in url.query.items() if name != "password"},
    )
    return bare.render_as_string(hide_password=False), passwords[-1]


def _parse(text: str) -> sa.URL:
    # A password with an @ that is not escaped would be cut there, and its end be
    # taken for the name of the server, which errors show.
    if text.count("@") > 1:
        message = (
            "The address of the label store holds more than one @; it is not shown, "
            "because it may hold a password. In a name or a password write %40 for @; "
            f"or leave the password out: {PASSWORD_VARIABLE} in the environment or a "
            "line in ~/.pgpass can hold it."
        )
        raise LabelsError(message)
    try:
        return sa.make_url(text)
    except (ArgumentError, ValueError):
        scheme = re.match(r"\w+(?=[+:])", text)
        message = (
            "The address of the label store cannot be read"
            f"{f' (it begins with {scheme[0]})' if scheme else ''}. {_HOW}"
        )
        raise LabelsError(message) from None


def _passwords(url: sa.URL) -> list[str]:
    """Return all passwords of an address; the last one is the one that counts."""
    given = [url.password, url.query.get("password")]
    return [str(each) for each in given if each]
