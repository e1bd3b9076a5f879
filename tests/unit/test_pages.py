"""Reading page by page."""

from trio_alerts.pages import Pages

LETTERS = ["ab", "cd", "e"]


async def read(after: str | None) -> list[str]:
    """Two letters a page; what comes after a letter is on the next page, and a short page is not the last."""
    rest = [letter for page in LETTERS for letter in page if after is None or letter > after]
    return rest[:2]


async def test_pages_follow_the_last_item_until_one_is_empty() -> None:
    """Each page is what follows the last item of the one before; a short one is not taken for the last."""
    assert [["a", "b"], ["c", "d"], ["e"]] == [list(page) async for page in Pages(read)]


async def test_a_loop_left_early_can_be_resumed() -> None:
    """It leaves nothing open that would have to be closed, and the next loop goes on with the next page."""
    pages = Pages(read)
    for expected in ("ab", "cd"):
        async for page in pages:
            assert expected == "".join(page)
            break
