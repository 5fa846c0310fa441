// SPDX-License-Identifier: Apache-2.0
//
// Looks at pages of `scope report --html` in a browser, as somebody would who hovers, zooms, filters and sorts.
//
//   browser.mjs NODE_MODULES CHROMIUM PROFILE <JOBS    [{"file": PATH, "plain": true}, ...] as JSON
//
//
// plain: once more without scripts. shots: pictures to be made, such as those of docs/report.md,
// {"PATH.png": {"width": 1140, "height": 900, "dark": true, "at": "files", "hover": [620, 300]}}.
// Prints one object for each, of what was seen. Nothing is judged here.
import fs from 'fs';
import path from 'path';
import { createRequire } from 'module';
import { pathToFileURL } from 'url';

const [modules, chromium, profile] = process.argv.slice(2);
const playwright = createRequire(path.resolve(modules, 'x.js'))('playwright-core');
const jobs = JSON.parse(fs.readFileSync(0));

const context = await playwright.chromium.launchPersistentContext(profile, {
  executablePath: chromium, headless: true, viewport: { width: 1280, height: 900 },
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
// What a policy forbids, and what hostile texts would do if they could. Functions that are given to the page this way
// come before its policy.
await context.addInitScript(() => {
  window.violations = [];
  window.addEventListener('securitypolicyviolation', (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
});
const scratch = await context.newPage();

// How many pixels of a picture (PNG) are not of its most frequent colour, and how many colours there are.
async function pixels(png) {
  return scratch.evaluate(async (data) => {
    const image = new Image();
    image.src = `data:image/png;base64,${data}`;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const c = canvas.getContext('2d');
    c.drawImage(image, 0, 0);
    const seen = new Map();
    const words = new Uint32Array(c.getImageData(0, 0, image.width, image.height).data.buffer);
    for (const w of words) seen.set(w, (seen.get(w) ?? 0) + 1);
    return { drawn: words.length - Math.max(...seen.values()), colors: seen.size };
  }, png.toString('base64'));
}

async function tip(page) {
  return page.evaluate(() => { const t = document.querySelector('.tip'); return t && !t.hidden ? t.textContent : null; });
}

async function timeline(page) {
  const canvas = page.locator('#chart-timeline canvas');
  const state = () => page.evaluate(() => { const t = document.getElementById('chart-timeline').timeline; return { domain: t.domain(), rows: t.rows() }; });
  if (!await canvas.count()) return null;
  await canvas.scrollIntoViewIfNeeded();
  const box = await canvas.boundingBox();
  const seen = { before: await state() };
  await page.mouse.move(box.x + 220, box.y + 34);
  seen.hover = await tip(page);
  await page.keyboard.down('Control');
  await page.mouse.wheel(0, -600);
  await page.keyboard.up('Control');
  await page.waitForTimeout(50);
  seen.wheel = await state();
  await page.mouse.move(box.x + 500, box.y + 34);
  await page.mouse.down();
  await page.mouse.move(box.x + 400, box.y + 34, { steps: 4 });
  await page.mouse.up();
  seen.dragged = await state();
  await page.locator('#chart-timeline button', { hasText: 'Reset' }).click();
  seen.reset = await state();
  await canvas.focus();
  await page.keyboard.press('+');
  seen.key = await state();
  await page.keyboard.press('0');
  await page.keyboard.press('ArrowDown');
  seen.selected = await tip(page);
  await page.locator('#chart-timeline input').fill('no such program');
  seen.none = await state();
  await page.locator('#chart-timeline input').fill('');
  seen.all = await state();
  const before = await canvas.screenshot();
  const kind = page.locator('#chart-timeline button[data-kind]').first();
  if (await kind.count()) {
    await kind.click();
    seen.kind = Buffer.compare(before, await canvas.screenshot()) !== 0;
    await kind.click();
  }
  return seen;
}

async function tables(page) {
  return page.evaluate(() => {
    const found = {};
    for (const t of document.querySelectorAll('main table')) {
      const body = t.tBodies[0];
      const texts = (n) => [...body.rows].map((r) => r.cells[n].dataset.v ?? r.cells[n].textContent);
      const result = { rows: body.rows.length, headers: [...t.tHead.rows[0].cells].map((c) => c.textContent) };
      const th = t.tHead.rows[0].cells[0];
      th.querySelector('button').click();
      result.first = texts(0);
      result.sort = th.getAttribute('aria-sort');
      th.querySelector('button').click();
      result.second = texts(0);
      result.sort2 = th.getAttribute('aria-sort');
      const input = t.parentNode.previousElementSibling?.querySelector('input');
      if (input && body.rows.length) {
        input.value = body.rows[0].textContent.trim().split(/\s+/)[0];
        input.dispatchEvent(new Event('input'));
        result.filtered = [...body.rows].filter((r) => !r.hidden).length;
        input.value = '\u0001nothing';
        input.dispatchEvent(new Event('input'));
        result.nothing = [...body.rows].filter((r) => !r.hidden).length;
        input.value = '';
        input.dispatchEvent(new Event('input'));
      }
      found[t.id] = result;
    }
    return found;
  });
}

async function look(job) {
  const page = await context.newPage();
  const seen = { console: [], errors: [], requests: [], dialogs: [], charts: {} };
  page.on('console', (m) => seen.console.push(`${m.type()}: ${m.text()}`));
  page.on('pageerror', (e) => seen.errors.push(String(e)));
  page.on('request', (r) => seen.requests.push(r.url().slice(0, 200)));
  page.on('dialog', (d) => { seen.dialogs.push(d.message()); d.dismiss(); });
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(pathToFileURL(job.file).href, { waitUntil: 'load' });
  seen.drawn = await page.evaluate(() => document.documentElement.dataset.drawn);
  seen.took = await page.evaluate(() => performance.timing.loadEventEnd - performance.timing.navigationStart);
  for (const figure of await page.locator('figure.chart').all()) {
    const id = await figure.getAttribute('id');
    const drawing = figure.locator('canvas, svg').first();
    seen.charts[id] = await pixels(await drawing.screenshot());
  }
  for (const id of ['map', 'latency', 'tree']) {
    const mark = page.locator(`#chart-${id} svg [tabindex]`).first();
    if (!await mark.count()) continue;
    await mark.focus();
    seen.charts[`chart-${id}`].tip = await tip(page);
    await page.keyboard.press('Escape');
    seen.charts[`chart-${id}`].closed = await tip(page) === null;
  }
  seen.timeline = await timeline(page);
  seen.tables = await tables(page);
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  seen.light = await background();
  await page.emulateMedia({ colorScheme: 'dark' });
  seen.dark = await background();
  seen.darkTimeline = await page.locator('#chart-timeline canvas').count() ? await pixels(await page.locator('#chart-timeline canvas').screenshot()) : null;
  await page.locator('#theme').click();
  seen.chosen = await background();
  await page.locator('#theme').click();
  await page.emulateMedia({ colorScheme: 'dark', media: 'print' });
  seen.printed = await page.evaluate(() => ({
    nav: getComputedStyle(document.querySelector('nav')).display,
    cut: [...document.querySelectorAll('.scroll')].filter((s) => s.scrollHeight > s.clientHeight + 1).length,
    background: getComputedStyle(document.body).backgroundColor,
  }));
  await page.emulateMedia({ colorScheme: 'light', media: 'screen' });
  await page.setViewportSize({ width: 700, height: 900 });
  seen.narrow = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  await page.setViewportSize({ width: 1280, height: 900 });
  seen.wide = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  seen.violations = await page.evaluate(() => window.violations);
  seen.hacked = await page.evaluate(() => window.hacked ?? null);
  // All that is named, focusable or an image has a name for who doesn't see it.
  seen.nameless = await page.evaluate(() => [...document.querySelectorAll('button, input, [tabindex], canvas, svg, figure')].filter((e) =>
    !(e.getAttribute('aria-label') || e.textContent.trim())).map((e) => e.outerHTML.slice(0, 120)));
  seen.elements = await page.evaluate(() => [...new Set([...document.querySelectorAll('body *')].map((e) => e.tagName.toLowerCase()))].sort());
  seen.text = await page.evaluate(() => document.querySelector('main').innerText);
  for (const [name, how] of Object.entries(job.shots ?? {})) {
    await page.reload();
    await page.emulateMedia({ colorScheme: how.dark ? 'dark' : 'light' });
    await page.setViewportSize({ width: how.width ?? 1280, height: how.height ?? 900 });
    await page.evaluate((at) => { const e = at && document.getElementById(at); document.documentElement.style.scrollBehavior = 'auto'; if (e) e.scrollIntoView(); else window.scrollTo(0, 0); }, how.at);
    await page.mouse.move(how.hover?.[0] ?? 0, how.hover?.[1] ?? 0);
    await page.waitForTimeout(100);
    await page.screenshot({ path: name });
  }
  await page.close();
  return seen;
}

// The same page where scripts are off.
async function without_scripts(job) {
  const browser = await playwright.chromium.launch({ executablePath: chromium, headless: true, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'] });
  const page = await (await browser.newContext({ javaScriptEnabled: false })).newPage();
  await page.goto(pathToFileURL(job.file).href);
  const seen = { text: await page.locator('main').innerText(), rows: await page.locator('main tbody tr').count() };
  await browser.close();
  return seen;
}

const results = [];
for (const job of jobs) results.push({ ...await look(job), ...(job.plain ? { plain: await without_scripts(job) } : {}) });
await context.close();
console.log(JSON.stringify(results));
