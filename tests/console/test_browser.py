"""The page in a real browser against the real server: what a person does, and what goes wrong."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect
from site_process import KEY, OpenPage, Site

RECORD = re.compile(r"^rec-[0-9a-f]{32}$")


def ask(page: Page, text: str) -> None:
    page.locator("#draft").fill(text)
    # Enter does nothing while the page still looks for its models.
    expect(page.locator("#send")).to_be_enabled()
    page.locator("#draft").press("Enter")


def answered(page: Page, status: str = "done") -> None:
    expect(page.locator(".answer").last).to_have_attribute("data-status", status)


def test_the_starter_answers_and_says_where_and_how_fast(
    native_site: Site, open_page: OpenPage
) -> None:
    page = open_page(native_site)
    expect(page.locator("#model")).to_have_value("SmolLM2-135M-Instruct")
    page.locator("#settings-open").click()
    page.locator("#temperature").fill("0")
    page.locator("#max-tokens").fill("16")
    page.keyboard.press("Escape")
    ask(page, "What is the capital of France? Answer in one sentence.")
    answer = page.locator(".answer").last
    expect(answer).to_have_attribute("data-status", re.compile("done|length"), timeout=60_000)
    expect(answer.locator(".answer-body")).to_contain_text("Paris")
    facts = answer.locator(".facts")
    expect(facts).to_contain_text("on this machine")
    expect(facts).to_contain_text("SmolLM2-135M-Instruct")
    expect(facts).to_contain_text(re.compile(r"\d tokens/s"))
    expect(facts).to_contain_text(re.compile(r"first token after \d+\.\d\d s"))
    expect(facts.locator(".record")).to_have_attribute("title", RECORD)


def test_a_model_elsewhere_is_chosen_and_its_place_and_cost_are_told(
    rented_site: Site, open_page: OpenPage
) -> None:
    page = open_page(rented_site)
    expect(page.locator("#model")).to_have_value("SmolLM2-135M-Instruct")
    expect(page.locator("#model option").last).to_have_text("echo · us")
    page.locator("#model").select_option("echo")
    ask(page, "Say this once more.")
    answered(page)
    expect(page.locator(".answer-body").last).to_have_text("Say this once more.")
    facts = page.locator(".answer").last.locator(".facts")
    expect(facts.locator(".place")).to_have_text("us")
    expect(facts.locator(".model")).to_have_text("echo")
    expect(facts.locator(".cost")).to_have_text(re.compile(r"0\.\d+ USD"))
    ask(page, "Mail ana@example.com")
    answered(page, "failed")
    expect(page.locator(".notice")).to_contain_text("1 x email")


def test_a_prompt_that_does_not_fit_names_both_numbers(
    native_site: Site, open_page: OpenPage
) -> None:
    page = open_page(native_site)
    ask(page, "word " * 9000)
    answered(page, "failed")
    words = re.compile(r"needs 9,\d{3} tokens; the model reads at most [28],\d{3}")
    expect(page.locator(".notice")).to_contain_text(words)


def test_an_answer_streams_and_can_be_stopped(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "endless")
    expect(page.locator(".answer-body")).to_contain_text("Paragraph 30 ")
    answered(page, "writing")
    page.keyboard.press("Escape")
    answered(page, "stopped")
    expect(page.locator(".notice")).to_contain_text("You stopped this answer")
    ask(page, "and on")
    answered(page)
    page.locator("#stop").wait_for(state="hidden")


def test_the_button_stops_too(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "endless")
    expect(page.locator(".answer-body")).to_contain_text("Paragraph 1 ")
    page.locator("#stop").click()
    answered(page, "stopped")


def test_scrolling_up_is_left_alone(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site, viewport={"width": 900, "height": 600})
    ask(page, "endless")
    expect(page.locator(".answer-body")).to_contain_text("Paragraph 40 ")
    expect(page.locator("#jump")).to_be_hidden()
    page.locator("#thread").hover()
    page.mouse.wheel(0, -400)
    expect(page.locator("#jump")).to_be_visible()
    place = page.evaluate("document.getElementById('thread').scrollTop")
    expect(page.locator(".answer-body")).to_contain_text("Paragraph 80 ")
    assert page.evaluate("document.getElementById('thread').scrollTop") == place
    page.locator("#jump").click()
    expect(page.locator("#jump")).to_be_hidden()
    page.locator("#stop").click()


def test_shift_enter_starts_a_line_and_text_keeps_its_lines(
    scripted_site: Site, open_page: OpenPage
) -> None:
    page = open_page(scripted_site)
    draft = page.locator("#draft")
    draft.press_sequentially("one")
    draft.press("Shift+Enter")
    draft.press_sequentially("two")
    expect(draft).to_have_value("one\ntwo")
    draft.press("Enter")
    answered(page)
    assert page.locator(".bubble").inner_text() == "one\ntwo"


def test_language_switches_without_reload(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "hello")
    answered(page)
    page.evaluate("window.mark = true")
    page.get_by_role("button", name="Bahasa Indonesia").click()
    expect(page.locator("html")).to_have_attribute("lang", "id")
    expect(page.locator("#new")).to_have_text("Percakapan baru")
    expect(page.locator("#draft")).to_have_attribute("placeholder", "Tulis pesan")
    expect(page.locator(".facts")).to_contain_text("di komputer ini")
    expect(page.locator(".facts")).to_contain_text("4,0 token/detik")
    expect(page.locator(".facts")).to_contain_text("5 token")
    assert page.evaluate("window.mark")
    page.reload()
    expect(page.locator("#new")).to_have_text("Percakapan baru")
    expect(page.locator(".answer-body")).to_have_text("hello")


def test_first_language_is_the_visitors(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site, locale="id-ID")
    expect(page.locator("html")).to_have_attribute("lang", "id")


def test_a_reload_keeps_everything(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "**kept**")
    answered(page)
    page.locator("#draft").fill("not sent yet")
    page.reload()
    expect(page.locator(".answer-body strong")).to_have_text("kept")
    expect(page.locator(".record")).to_have_attribute("title", RECORD)
    expect(page.locator("#draft")).to_have_value("not sent yet")
    expect(page.locator(".entry")).to_have_count(1)


def test_a_reload_in_the_middle_never_looks_finished(
    scripted_site: Site, open_page: OpenPage
) -> None:
    page = open_page(scripted_site)
    ask(page, "endless")
    expect(page.locator(".answer-body")).to_contain_text("Paragraph 60 ")
    page.reload()
    answered(page, "broken")
    expect(page.locator(".notice")).to_contain_text("broke off")


def test_conversations_can_be_opened_and_deleted(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    for text in ("first", "second", "third"):
        page.locator("#new").click()
        ask(page, text)
        answered(page)
    titles = page.locator(".entry .title")
    expect(titles).to_have_text(["third", "second", "first"])
    titles.nth(2).click()
    expect(page.locator(".answer-body")).to_have_text("first")
    page.get_by_role("button", name="Delete “first”").click()
    page.locator("#ask-yes").click()
    expect(titles).to_have_text(["third", "second"])
    expect(page.locator("#welcome")).to_be_visible()
    page.locator("#delete-all").click()
    page.locator("#ask-yes").click()
    expect(titles).to_have_count(0)
    kept = page.evaluate("Object.keys(localStorage).filter(k => k.includes('conversation'))")
    assert kept == []


def test_answer_again_and_change_the_last_message(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "one")
    answered(page)
    record = page.locator(".record").get_attribute("title")
    page.get_by_role("button", name="Answer again").click()
    expect(page.locator(".record")).not_to_have_attribute("title", record or "")
    expect(page.locator(".answer")).to_have_count(1)
    page.locator(".question").hover()
    page.get_by_role("button", name="Change this message").click()
    expect(page.locator("#draft")).to_have_value("one")
    ask(page, "two")
    answered(page)
    expect(page.locator(".bubble")).to_have_text(["two"])


def test_settings_are_sent(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    page.locator("#settings-open").click()
    page.locator("#system").fill("Be brief.")
    page.locator("#temperature").fill("0.5")
    page.keyboard.press("Escape")
    ask(page, "count")
    expect(page.locator(".answer-body")).to_have_text("2 messages, temperature 0.5")


def test_the_key_leaves_the_address_at_once(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    expect(page.locator("#model")).to_be_visible()
    assert page.url == scripted_site.url + "/"
    assert page.evaluate("localStorage.getItem('daulat.key')") == KEY


def test_without_a_key_the_page_asks_for_it(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site, key=None)
    expect(page.locator("#key-panel")).to_be_visible()
    expect(page.locator("#key-wrong")).to_be_hidden()
    page.locator("#key-later").click()
    page.get_by_role("button", name="Enter the key").click()
    page.locator("#key").fill("daulat-wrong")
    page.locator("#key").press("Enter")
    expect(page.locator("#key-wrong")).to_be_visible()
    page.locator("#key").fill(KEY)
    page.locator("#key").press("Enter")
    expect(page.locator("#key-panel")).to_be_hidden()
    ask(page, "hello")
    answered(page)


def test_a_key_that_stopped_working_costs_no_text(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    expect(page.locator("#model")).to_be_visible()
    page.evaluate("localStorage.setItem('daulat.key', 'daulat-revoked')")
    ask(page, "important words")
    expect(page.locator("#key-wrong")).to_be_visible()
    page.locator("#key").fill(KEY)
    page.locator("#key").press("Enter")
    answered(page)
    expect(page.locator(".answer-body")).to_have_text("important words")


def test_a_busy_server_is_waited_for(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "busy")
    expect(page.locator(".waiting")).to_contain_text("The server is busy. Trying again in")
    answered(page)


def test_a_late_answer_says_how_long_it_takes(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "late")
    expect(page.locator(".waiting")).to_contain_text("Waiting for the first word for 2 seconds.")
    answered(page)


def test_too_long_offers_a_new_conversation(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "hello")
    answered(page)
    ask(page, "too long")
    answered(page, "failed")
    words = "This conversation needs 9,214 tokens; the model reads at most 2,048."
    expect(page.locator(".notice")).to_contain_text(words)
    page.get_by_role("button", name="Ask in a new conversation").click()
    expect(page.locator("#welcome")).to_be_visible()
    expect(page.locator("#draft")).to_have_value("too long")


def test_a_broken_stream_is_never_shown_as_finished(
    scripted_site: Site, open_page: OpenPage
) -> None:
    page = open_page(scripted_site)
    ask(page, "break in the middle")
    answered(page, "broken")
    expect(page.locator(".answer-body")).to_contain_text("break in")
    expect(page.locator(".notice")).to_contain_text("The answer broke off")
    expect(page.locator(".notice .detail")).to_have_text("The model broke.")


def test_the_token_limit_is_named(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "limit")
    answered(page, "length")
    expect(page.locator(".notice")).to_contain_text("ended at its token limit")


def test_the_server_goes_and_comes_back(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "before")
    answered(page)
    scripted_site.stop()
    ask(page, "into the dark")
    answered(page, "failed")
    expect(page.locator("#banner")).to_contain_text("The server is not answering.")
    page.locator("#draft").fill("still here")
    expect(page.locator("#send")).to_be_disabled()
    scripted_site.start()
    expect(page.locator("#banner")).to_contain_text("The server is back.", timeout=30_000)
    expect(page.locator("#draft")).to_have_value("still here")
    page.get_by_role("button", name="Try again").click()
    answered(page)
    expect(page.locator(".answer-body").last).to_have_text("into the dark")
    ask(page, "still here")
    expect(page.locator(".answer-body").last).to_have_text("still here")


def test_a_phone_has_the_list_in_a_drawer(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site, viewport={"width": 360, "height": 640}, has_touch=True)
    ask(page, "a" * 300 + " `" + "b" * 300 + "`")
    answered(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.locator("#side")).not_to_be_in_viewport()
    page.locator("#side-open").click()
    expect(page.locator(".entry")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(page.locator("#side")).not_to_be_in_viewport()


def test_every_control_has_a_name(scripted_site: Site, open_page: OpenPage) -> None:
    page = open_page(scripted_site)
    ask(page, "```python\nprint(1)\n```")
    answered(page)
    # The button that deletes gets its words when it is shown.
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, select, dialog")]
            .filter(e => e.id !== "ask-yes")
            .filter(e => !(e.ariaLabel || e.labels?.length || e.textContent.trim()))
            .map(e => e.outerHTML)"""
    )
    assert nameless == []
