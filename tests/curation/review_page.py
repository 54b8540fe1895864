"""What a reviewer does on Argilla's pages, in a real browser: for tests, and for their pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curation.argilla.server import Login
from tests.waiting import PAGE_PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, ViewportSize

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The browser's own calls home; what a page asks for is seen in its requests all the same.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]


@contextmanager
def browsing(
    chromium: str, url: str, size: tuple[int, int] = (1440, 1000), locale: str = "en-US"
) -> Iterator[ReviewPage]:
    """Open a browser window of a width and a height in pixels on the Argilla at ``url``."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PAGE_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        viewport: ViewportSize = {"width": size[0], "height": size[1]}
        page = browser.new_context(viewport=viewport, locale=locale).new_page()
        page.set_default_timeout(PAGE_PATIENCE)
        yield ReviewPage(page, url)
        browser.close()


class ReviewPage:
    """What a reviewer does on Argilla's pages, in a reviewer's words."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def sign_in(self, login: Login) -> None:
        self.page.goto(f"{self.url}/sign-in")
        self.page.fill("input[type=text]", login.username)
        self.page.fill("input[type=password]", login.password)
        self.page.keyboard.press("Enter")
        self.page.wait_for_url(lambda url: "sign-in" not in url)

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_selector("form.questions-form")

    def guidelines(self) -> str:
        self.page.get_by_label("Expand Panel").first.click()
        text = self.page.locator(".resizable-h__down").first.inner_text()
        self.page.get_by_label("Collapse Panel").first.click()
        return text

    def shows(self, total: int) -> None:
        """Wait until the list holds ``total`` records."""
        from playwright.sync_api import expect

        expect(self.page.get_by_label("Total Records")).to_have_text(f"of {total}")

    def question(self) -> str:
        return self.page.locator(".text_field_component .content-area").first.inner_text().strip()

    def new_question(self, seen: set[str]) -> str:
        """Wait for a question that is not among ``seen``; return it, its spaces made one."""
        area = ".text_field_component .content-area"
        handle = self.page.wait_for_function(
            """([area, seen]) => {
                const one = document.querySelector(area);
                const text = one ? one.innerText.trim().replace(/\\s+/g, " ") : "";
                return text && !seen.includes(text) ? text : null;
            }""",
            arg=[area, sorted(seen)],
        )
        self.page.wait_for_timeout(150)  # the focus goes to the first question
        return str(handle.json_value())

    def texts(self) -> list[str]:
        """Return what the text fields show, with its spaces and line ends."""
        areas = self.page.locator(".text_field_component .content-area")
        return [area.inner_text().removesuffix("\n ") for area in areas.all()]

    def chat(self) -> list[tuple[str, str]]:
        """Return who said what before the question."""
        turns = self.page.locator(".chat__bubble").evaluate_all(
            """all => all.map(one => {
                const role = one.parentElement.querySelector(".chat__role");
                const style = one.querySelector("style");
                if (style) style.remove();
                return [role.innerText.trim(), one.innerText.trim()];
            })"""
        )
        return [(role, text) for role, text in turns]

    def next_row(self, seen: set[str]) -> int:
        """Wait for a question that begins with ``Q``, a new digit and a colon; return the digit."""
        from playwright.sync_api import expect

        left = "".join(sorted(set("0123456789") - {name[1:] for name in seen}))
        area = self.page.locator(".text_field_component .content-area").first
        expect(area).to_have_text(re.compile(rf"^\s*Q[{left}]:"))
        return int(area.inner_text().strip()[1])

    def pictures(self) -> list[int]:
        """Return the widths of the pictures beside the texts, in their own pixels."""
        self.page.wait_for_function("[...document.images].every(one => one.complete)")
        script = "all => all.map(one => one.naturalWidth)"
        widths: list[int] = self.page.locator(
            ".image_field img[src^='data:'], .image_field img[src^='http']"
        ).evaluate_all(script)
        return widths

    def search(self, words: str) -> None:
        box = self.page.get_by_placeholder(re.compile("Introduce a query|찾을 말을 넣으세요"))
        if not box.is_visible():
            self.page.locator(".search-area__icon.--search").first.click()
        box.fill(words)
        box.press("Enter")

    def filter(self, kind: str, *choices: str) -> None:
        if not self.page.get_by_text(kind, exact=True).is_visible():
            self.page.get_by_text("Filters", exact=True).click()
        self.page.get_by_text(kind, exact=True).click()
        panel = self.page.locator(".dropdown__content")
        for choice in choices:
            panel.get_by_text(choice, exact=True).first.click()

    def asked(self, name: str) -> Locator:
        return self.page.get_by_label(f"Question: {name}")

    def focuses(self, name: str) -> None:
        """Wait until the focus is on a question."""
        self.page.wait_for_selector(
            f'[aria-label="Question: {name}"]:focus-within', state="attached"
        )

    def rate(self, value: int) -> None:
        self.page.locator(f'label[for="fidelity_{value}"]').click()

    def is_rated(self, value: int) -> None:
        """Wait until the rating is taken."""
        self.page.wait_for_selector(f"#fidelity_{value}:checked", state="attached")

    def mark(self, problem: str) -> None:
        label = self.page.locator(f'label[for="problems_{problem}"]')
        if not label.is_visible():  # beyond those in sight
            self.asked("problems").get_by_text(re.compile(r"^\s*\+\d+\s*$")).first.click()
        label.click()

    def is_marked(self, problem: str) -> bool:
        return self.page.locator(f"#problems_{problem}").is_checked()

    def write(self, question: str, text: str) -> None:
        """Put ``text`` in place of what the question's box holds."""
        box = self.asked(question).get_by_role("textbox")
        box.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)

    def written(self, question: str) -> str:
        """Return what the question's box shows."""
        return self.asked(question).get_by_role("textbox").inner_text()

    def has_done(self, kind: str, count: int) -> None:
        """Wait until the footer counts ``count`` records as done so."""
        from playwright.sync_api import expect

        footer = self.page.locator(".wrapper__right .panel, .resizable-v__right .panel").last
        expect(footer).to_contain_text(re.compile(rf"{kind}\s*{count}", re.IGNORECASE))

    def press(self, button: str) -> None:
        self.page.get_by_role("button", name=button).last.click()
