"""The store as those commands use it that only read records."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeVar

from trio_alerts.errors import SchemaError, StartError, Unavailable
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_store

T = TypeVar("T")
U = TypeVar("U")
SETTINGS = ("store_url", "store_ca_file", "store_timeout_s", "index", "log_format")  # what these commands need


async def enter_both(
    opened: AsyncExitStack, redis: AbstractAsyncContextManager[T], records: AbstractAsyncContextManager[U]
) -> tuple[T, U]:
    """Open both backends; `opened` closes them. In this order: `open_records` blames nobody but who says it.

    Raises:
        ExceptionGroup: What is wrong with Redis, with the store, or with each of them.
    """
    faults: list[Exception] = []
    try:
        first = await opened.enter_async_context(redis)
    except StartError as fault:
        faults.append(fault)
    try:
        second = await opened.enter_async_context(records)
    except (StartError, SchemaError) as fault:
        faults.append(fault)
    if faults:
        raise ExceptionGroup("backends", faults)
    return first, second


@asynccontextmanager
async def open_records(settings: Settings) -> AsyncIterator[AlertStore]:
    """Open the store for reading; nothing is created.

    Raises:
        SchemaError: It does not exist yet, or cannot be trusted: a filter that finds too little would not show it.
        StartError: It cannot be reached or refuses us, also later.
    """
    try:
        async with open_store(settings) as store:
            await store.guard()
            yield store
    except Unavailable as error:
        raise StartError(str(error)) from error
