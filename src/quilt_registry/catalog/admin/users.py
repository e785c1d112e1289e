"""The page of all accounts, and what admins do to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Response
from litestar.params import FromPath
from msgspec import Struct

from quilt_registry.accounts import admin, reports, rights, sessions, users
from quilt_registry.accounts.reports import Status, UserFilter, UserRow, UserSort
from quilt_registry.accounts.sessions import Session
from quilt_registry.accounts.users import Account
from quilt_registry.catalog import confirmation, flash, forms
from quilt_registry.catalog.account import new_account
from quilt_registry.catalog.admin import fields
from quilt_registry.catalog.paging import page_number, page_of
from quilt_registry.catalog.templates import render
from quilt_registry.catalog.urls import url
from quilt_registry.errors import Conflict, NotFound
from quilt_registry.mail import outbox
from quilt_registry.registry import Registry
from quilt_registry.web.requests import AnyRequest, Injected

PAGE_SIZE = 50
STATUSES: dict[Status, str] = {"active": "Active", "disabled": "Disabled", "never": "Never signed in"}
# Sort keys with the heads of their columns.
COLUMNS: dict[UserSort, str] = {
    "name": "Name",
    "email": "E-mail",
    "packages": "Packages",
    "pushes": "Pushes",
    "installs": "Installs",
    "views": "Views",
    "seen": "Last seen",
    "joined": "Joined",
}


class Asked(Struct, frozen=True):
    """What the URL of the list asks for."""

    filter: UserFilter
    sort: UserSort
    page: int

    @property
    def fields(self) -> dict[str, str | None]:
        """The filters as they are in the URL."""
        admins = "1" if self.filter.admins else None
        return {"q": self.filter.text, "status": self.filter.status, "admins": admins}

    def url(self, *segments: str, page: int = 1) -> str:
        """Return the path of a page of this list, or with segments that of a page that returns to it."""
        sort = self.sort if self.sort != "name" else None
        return url("profile", "admin", "users", *segments, **self.fields, sort=sort, page=page if page > 1 else None)


def _asked(request: AnyRequest) -> Asked:
    filter = UserFilter(
        text=fields.text(request, "q"),
        status=fields.choice(request, "status", STATUSES),
        admins=request.query_params.get("admins") == "1",
    )
    return Asked(filter, fields.choice(request, "sort", COLUMNS) or "name", page_number(request))


class NewUser(Struct, frozen=True):
    """The form that creates an account."""

    username: str = ""
    email: str = ""


async def page(request: AnyRequest, account: Injected[Account], registry: Injected[Registry]) -> Response[Any]:
    """List accounts with their activity."""
    return await _render(request, registry, account)


async def _render(
    request: AnyRequest, registry: Registry, account: Account, status: int = 200, **form: Any
) -> Response[Any]:
    asked = _asked(request)
    page = page_of(request, PAGE_SIZE, await reports.count_users(registry.db, asked.filter))
    rows = await reports.find_users(
        registry.db, asked.filter, asked.sort, offset=page.offset, limit=page.size
    )  # fmt: skip
    manages = registry.settings.enable_user_endpoints
    values = {
        "asked": asked,
        "page": page,
        "rows": [(row, _acts_on(row, account) if manages else []) for row in rows],
        "columns": COLUMNS,
        "statuses": STATUSES,
        "acts": ACTS,
        "manages": manages,
        "new": NewUser(),
        "problems": {},
        "link": "",
    }
    return render(request, "admin/users.html", status, **values | form)


async def create(request: AnyRequest, account: Injected[Account], registry: Injected[Registry]) -> Response[Any]:
    """Create an account. Show its link to choose a password if no email can be sent."""
    rights.check_manages_accounts(registry.settings)
    new = NewUser(*(field.strip() for field in forms.read(request, "username", "email")))
    if problems := new_account.find_problems(new.username, new.email):
        return await _render(request, registry, account, 422, new=new, problems=problems)
    try:
        secret = await admin.create(registry.db, registry.site, account, new.username, new.email)
    except Conflict as error:
        return await _render(request, registry, account, error.status, new=new, problems=new_account.problem_of(error))
    if not await outbox.can_send(registry.settings):
        link = registry.settings.catalog_url + url("reset_password", secret)
        return await _render(request, registry, account, created=new, link=link)
    message = f"The account {new.username} is created. We have sent a welcome email to {new.email}."
    return flash.redirect(request, url("profile", "admin", "users"), message)


# ------------------------------------------------------------------------------------------------ acts


class Act(Struct, frozen=True):
    """What an admin can do to an account. `{}` in its texts is the username.

    `is_safe`: no user loses anything. Without a `question`, no page asks first. `asks_password`: a stolen session must
    not do it.
    """

    title: str
    run: Callable[[Registry, Account, str], Awaitable[Any]]
    done: str
    question: str = ""
    consequences: str = ""
    is_safe: bool = False
    asks_password: bool = False


ACTS = {
    "grant-admin": Act(
        "Grant admin",
        lambda registry, account, name: admin.grant_admin(registry.db, account, name),
        "{} is an admin now.",
        "Make {} an admin?",
        "Admins create and disable accounts, make others admins, and read the audit trail. They cannot read packages "
        "that are not shared with them.",
        is_safe=True,
        asks_password=True,
    ),
    "revoke-admin": Act(
        "Revoke admin",
        lambda registry, account, name: admin.revoke_admin(registry.db, account, name),
        "{} is no longer an admin.",
        "Revoke the admin rights of {}?",
        "The account stays as it is otherwise, and keeps its packages.",
    ),
    "reset-password": Act(
        "Send password reset",
        lambda registry, account, name: admin.reset_password(registry.db, registry.site, account, name),
        "{} gets an email with a link to choose a new password.",
        "Send {} a password reset?",
        "The current password stops working at once, and all tokens of the account are revoked: browsers, command "
        "lines and programs have to sign in again.",
    ),
    "sign-out": Act(
        "Sign out everywhere",
        lambda registry, account, name: sessions.sign_out_everywhere(
            registry.db, name, personal_tokens=False, by=account.name
        ),
        "{} is signed out everywhere.",
        "Sign {} out everywhere?",
        "This ends the sign-ins of all browsers and command lines. Personal access tokens stay valid. Send a password "
        "reset to revoke these too.",
    ),
    "disable": Act(
        "Disable",
        lambda registry, account, name: admin.disable(registry.db, account, name),
        "{} is disabled and signed out everywhere.",
        "Disable {}?",
        "This signs the user out everywhere and revokes all tokens. The packages stay, and those who have access can "
        "still use them. You can enable the account again.",
    ),
    "enable": Act(
        "Enable",
        lambda registry, account, name: admin.enable(registry.db, account, name),
        "{} can sign in again.",
        is_safe=True,
    ),
}  # fmt: skip


def _acts_on(row: UserRow, account: Account) -> list[str]:
    """Return the acts that make sense for an account. An admin's own rights and account are for other admins."""
    acts = ["reset-password", "sign-out"] if row.is_active else []
    if row.name == account.name:
        return acts
    acts.insert(0, "revoke-admin" if row.is_admin else "grant-admin")
    return [*acts, "disable" if row.is_active else "enable"]


async def confirm(
    request: AnyRequest,
    session: Injected[Session],
    registry: Injected[Registry],
    name: FromPath[str],
    act: FromPath[str],
) -> Response[Any]:
    """Ask before something is done to an account."""
    found = _find_act(act)
    rights.check_manages_accounts(registry.settings)
    if not found.question or await users.find(registry.db, name) is None:
        raise NotFound("There is nothing at this URL.")
    return _ask(request, session, name, found)


def _ask(
    request: AnyRequest, session: Session, name: str, act: Act, problems: dict[str, str] | None = None
) -> Response[Any]:
    return render(
        request,
        "admin/confirm_act.html",
        422 if problems else 200,
        name=name,
        asked_act=act,
        is_safe=act.is_safe,
        asks_password=act.asks_password and not session.confirmed,
        problems=problems or {},
        back=_back(request, name),
    )


async def perform(
    request: AnyRequest,
    session: Injected[Session],
    registry: Injected[Registry],
    name: FromPath[str],
    act: FromPath[str],
) -> Response[Any]:
    """Do something to an account, and return to its row in the list."""
    found = _find_act(act)
    rights.check_manages_accounts(registry.settings)
    if found.asks_password and (problems := await confirmation.find_problems(request, session)):
        return _ask(request, session, name, found, problems)
    await found.run(registry, session.account, name)
    return flash.redirect(request, _back(request, name), found.done.format(name))


def _find_act(act: str) -> Act:
    if act not in ACTS:
        raise NotFound("There is nothing at this URL.")
    return ACTS[act]


def _back(request: AnyRequest, name: str) -> str:
    """Return the path of an account's row in the list that the admin came from."""
    asked = _asked(request)
    return asked.url(page=asked.page) + f"#user-{name}"
