"""The site in a real Chromium: every page renders, on a screen and a phone, in light and dark, and keeps itself new."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from gateway_chain import FullChain
from gateway_world import NAME, World
from playwright.async_api import Browser, Page, async_playwright, expect

from installed import browser_program
from koinon.gateway.serve import Site, SiteConfig, open_site

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = (
    "/",
    "/studies",
    "/studies/1",
    "/studies/3",
    "/models",
    f"/models/{NAME}",
    "/budgets",
    "/budgets/1",
    "/receipts",
    "/settlement/5",
    "/blocks",
    "/blocks/12",
    "/models/nobody.here",
)
SCREENS = {"screen": (1280, 900), "phone": (390, 844)}

pytestmark = pytest.mark.browser


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=browser_program(), args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def served(chain: FullChain, world: World, port: int = 0) -> AsyncIterator[Site]:
    config = SiteConfig(chain_urls=("http://127.0.0.1:9",), addresses=world.addresses, port=port, ledgers=world.ledgers)
    async with open_site(config, rpc=chain) as site:
        yield site


@asynccontextmanager
async def opened(chain: FullChain, world: World, path: str, **context: object) -> AsyncIterator[Page]:
    """A page of a served site, with its complaints as ``page.complaints``."""
    async with served(chain, world) as site, chromium() as browser:
        page = await (await browser.new_context(**context)).new_page()  # type: ignore[arg-type]
        await page.goto(site.url + path)
        yield page


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of ``rgb(…)``."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio (WCAG 2.2) of two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_page_renders_quietly_and_fits(chain: FullChain, world: World, screen: str, theme: str) -> None:
    width, height = SCREENS[screen]
    complaints: list[str] = []
    async with served(chain, world) as site, chromium() as browser:
        context = await browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            is_mobile=screen == "phone",
            has_touch=screen == "phone",
        )
        page = await context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for path in PAGES:
            await page.goto(site.url + path)
            drawings = page.locator("[data-chart]")
            await expect(page.locator("[data-chart] canvas")).to_have_count(await drawings.count())
            assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
            background = await page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (luminance(background) < 0.05) == (theme == "dark")
    missing = "Failed to load resource: the server responded with a status of 404 (Not Found)"
    assert complaints == [missing]  # the last page is the one that does not exist


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_colour_of_text_can_be_read(chain: FullChain, world: World, theme: str) -> None:
    async with opened(chain, world, f"/models/{NAME}", color_scheme=theme) as page:
        pairs = await page.evaluate(
            """() => ["--ink", "--faint", "--accent", "--final", "--pending", "--failed"].flatMap((name) =>
                ["--paper", "--raised"].map((ground) => {
                    const probe = document.body.appendChild(document.createElement("p"));
                    probe.style.color = `var(${name})`;
                    probe.style.backgroundColor = `var(${ground})`;
                    const style = getComputedStyle(probe);
                    return [`${name} on ${ground}`, style.color, style.backgroundColor];
                }))"""
        )
        assert len(pairs) == 12
        weak = {name: contrast(colour, ground) for name, colour, ground in pairs if contrast(colour, ground) < 4.5}
        assert weak == {}


async def test_the_radar_stands_beside_its_table(chain: FullChain, world: World) -> None:
    async with opened(chain, world, f"/models/{NAME}", viewport={"width": 1280, "height": 900}) as page:
        radar = page.locator("[data-chart=radar] canvas")
        await expect(radar).to_be_visible()
        drawing = await radar.bounding_box()
        table = await page.get_by_role("region", name="Trust vector").bounding_box()
        assert drawing is not None
        assert table is not None
        assert drawing["x"] + drawing["width"] <= table["x"]
        assert drawing["y"] < table["y"] + table["height"]
        assert table["y"] < drawing["y"] + drawing["height"]
        ink = await radar.evaluate(
            """canvas => new Set(new Uint32Array(canvas.getContext("2d")
                .getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size"""
        )
        assert ink > 10  # something was drawn, not one flat colour


async def test_news_appears_without_a_reload(chain: FullChain, world: World) -> None:
    async with opened(chain, world, "/studies/3") as page:
        await expect(page.locator("#line")).to_have_text("live")
        await expect(page.locator(".answer .state")).to_have_text("drawing")
        await page.evaluate("window.sameVisit = true")
        await world.draw(3)
        await expect(page.locator(".answer .state")).to_have_text("running")
        await expect(page.locator(".timeline")).to_contain_text("Committee 2 drawn")
        assert await page.evaluate("window.sameVisit === true")


async def test_a_lost_line_is_said_and_comes_back_by_itself(chain: FullChain, world: World) -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        async with served(chain, world) as site:
            await page.goto(site.url + "/blocks")
            await expect(page.locator("#line")).to_have_text("live")
        await expect(page.locator("#line")).to_contain_text("Connection lost")
        async with served(chain, world, int(site.url.rsplit(":", 1)[1])):
            await expect(page.locator("#line")).to_have_text("live", timeout=15_000)


async def test_the_keyboard_alone_is_enough(chain: FullChain, world: World) -> None:
    async with opened(chain, world, "/studies/1") as page:
        await page.keyboard.press("Tab")
        skip = page.locator(".skip")
        await expect(skip).to_be_focused()
        box = await skip.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        number = page.locator("button.number").first
        await number.focus()
        await page.keyboard.press("Shift+Tab")
        await page.keyboard.press("Tab")
        await expect(number).to_be_focused()
        outline = await number.evaluate(
            "one => getComputedStyle(one).outlineStyle + getComputedStyle(one).outlineWidth"
        )
        assert outline == "solid2px"
        await page.keyboard.press("Enter")
        origin = page.locator(".origin:popover-open")
        await expect(origin).to_contain_text("Where this number comes from")
        await expect(origin.locator("pre")).to_contain_text("eth_call")
        await page.keyboard.press("Escape")
        await expect(origin).to_have_count(0)
        await expect(number).to_be_focused()


async def test_without_scripts_the_facts_are_all_there(chain: FullChain, world: World) -> None:
    async with opened(chain, world, f"/models/{NAME}", java_script_enabled=False) as page:
        await expect(page.get_by_role("heading", level=1)).to_contain_text(NAME)
        await expect(page.get_by_role("region", name="Trust vector")).to_contain_text("0.9912")
        await expect(page.locator("svg.provenance.across")).to_be_visible()


async def test_a_hash_is_copied_by_a_click(chain: FullChain, world: World) -> None:
    async with served(chain, world) as site, chromium() as browser:
        context = await browser.new_context()
        await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=site.url)
        page = await context.new_page()
        await page.goto(site.url + "/blocks/12")
        button = page.locator("dd button[data-copy]").nth(1)
        whole = await button.get_attribute("data-copy")
        await button.click()
        await expect(button).to_have_text("copied")
        assert await page.evaluate("navigator.clipboard.readText()") == whole
        assert whole is not None
        await expect(button).to_have_text(f"{whole[:6]}…{whole[-4:]}")
