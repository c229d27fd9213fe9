// What the browser suites look at pages with: a camera and axe-core.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { HERE } from "./test_gateway.mjs";

const SHOTS = process.env.DURWARD_SCREENSHOTS;
const AXE = readFileSync(join(HERE, "node_modules/axe-core/axe.min.js"), "utf8");

// Light and dark, wide and narrow, into DURWARD_SCREENSHOTS if that is set.
export const takeScreenshots = async (page, name) => {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  for (const [width, word] of [[1280, "wide"], [390, "narrow"]]) {
    await page.setViewportSize({ width, height: 900 });
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme });
      await page.screenshot({ path: join(SHOTS, `${name}-${word}-${scheme}.png`), fullPage: true });
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: "light" });
};

// Nothing serious for people who cannot see, point or tell colours apart; nothing wider than the screen of a phone.
export const checkAccessibility = async (page, name) => {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    // The page's own policy forbids scripts from elsewhere, so the checker comes by the debugging protocol.
    await page.evaluate(AXE);
    const found = await page.evaluate(() => window.axe.run());
    const bad = found.violations.map((one) => `${one.impact} ${one.id}: ${one.nodes.map((node) => node.target).join("; ")}`);
    assert.deepEqual(bad, [], `${name}, ${scheme}`);
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 320, height: 700 });
  const [content, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= screen, `${name}: ${content} px wide on a screen of ${screen}`);
  await page.setViewportSize({ width: 1280, height: 900 });
};

// What a person with a phone sees without scrolling.
export const takeScreenshot = async (page, name) => {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.screenshot({ path: join(SHOTS, `${name}-${scheme}.png`) });
  }
  await page.emulateMedia({ colorScheme: "light" });
};
