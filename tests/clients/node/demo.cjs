// Uses the demo page as a person would, and prints what it showed in the end as one line of JSON.
// Usage: node demo.cjs CHROMIUM URL SCREENSHOT
const { chromium } = require('playwright-core');

const [executablePath, url, screenshot] = process.argv.slice(2);

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const page = await browser.newPage({ viewport: { width: 1280, height: 1400 } });
  page.setDefaultTimeout(20000);
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  const count = (id) => page.locator(id).textContent().then(Number);
  const atLeast = (id, n) =>
    page.waitForFunction(([id, n]) => Number(document.querySelector(id).textContent) >= n, [id, n]);

  await page.goto(url);
  await page.fill('#stream', 'shown');
  await page.click('#connect');
  await page.waitForSelector('#state[data-state="live"]');

  await page.fill('#data', 'published by hand');
  await page.fill('#type', 'note');
  await page.click('#publish');
  await page.waitForSelector('#answer[data-ok="true"]');
  await atLeast('#received', 1);
  const byHand = await page.locator('#events .event').first().textContent();

  await page.locator('#rate-20').check({ force: true });
  await page.locator('#ticks').check({ force: true });
  await atLeast('#received', 20);

  await page.click('#cut');
  const story = page.locator('#stories .story[data-phase="done"]').first();
  await story.waitFor();
  const told = await story.evaluate((node) => ({ ...node.dataset }));
  await page.locator('#ticks').uncheck({ force: true });
  await page.screenshot({ path: screenshot });

  process.stdout.write(
    `${JSON.stringify({
      byHand,
      story: told,
      text: await story.locator('.story-steps').textContent(),
      received: await count('#received'),
      gaps: await count('#gaps'),
      holes: await count('#holes'),
      duplicates: await count('#duplicates'),
      replayed: await page.locator('#events .event.replayed').count(),
      state: await page.locator('#state').getAttribute('data-state'),
      errors,
    })}\n`,
  );
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
