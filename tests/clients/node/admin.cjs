// Uses the admin page by the keyboard, in light and dark, and prints what it showed as one line of JSON.
// Usage: node admin.cjs CHROMIUM BASE TOKEN PICTURES [NODES]
const { chromium } = require('playwright-core');

const [executablePath, base, token, pictures, nodesWanted] = process.argv.slice(2);
const wanted = Number(nodesWanted ?? 0);

(async () => {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const stranger = await browser.newContext();
  const unknown = (await stranger.request.get(`${base}/admin`)).status();
  await stranger.close();

  const viewport = { width: 1280, height: 1200 };
  const context = await browser.newContext({ viewport, httpCredentials: { username: 'ann', password: token } });
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  const errors = [];
  const elsewhere = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => {
    // The browser is asked for the token once, which it tells as an error.
    if (message.type() === 'error' && !message.text().includes('401')) errors.push(message.text());
  });
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(base) && !url.startsWith('data:')) elsewhere.push(url);
  });
  await page.goto(`${base}/admin`);
  await page.waitForSelector('#link[data-link="live"]');
  await page.waitForSelector('#streams tr');
  const card = (term) => page.locator('#now div', { has: page.locator(`dt:text-is("${term}")`) }).locator('dd');
  await page.waitForFunction(() => {
    const rate = document.querySelector('#streams tr td.number')?.textContent;
    return Number(rate) > 1;
  });
  // Where it belongs to a cluster: until every node that is wanted is shown with its share.
  if (wanted > 0) {
    await page.waitForFunction((wanted) => {
      const rows = [...document.querySelectorAll('#nodes tr')];
      return rows.length === wanted && rows.every((row) => row.textContent.includes('%'));
    }, wanted);
  }
  const nodes = await page.locator('#nodes tr').evaluateAll((rows) =>
    rows.map((row) => [...row.children].map((cell) => cell.textContent)),
  );
  const clusterCards = await page.locator('#cluster dt').allTextContents();
  await page.waitForSelector('#journal li');
  const rate = Number(await page.locator('#streams tr td.number').first().textContent());

  // To the first button, by the keyboard alone.
  for (let n = 0; n < 20; n += 1) {
    await page.keyboard.press('Tab');
    if (await page.evaluate(() => document.activeElement?.getAttribute('aria-label') === 'Look at quote')) break;
  }
  await page.keyboard.press('Enter');
  await page.waitForSelector('#look-events tr');
  const look = await page.evaluate(() => document.activeElement?.textContent);
  const events = await page.locator('#look-events tr').count();
  const facts = await page.locator('#look-facts').textContent();
  const oldest = await page.locator('#look-events tr').last().locator('td').first().textContent();
  await page.screenshot({ path: `${pictures}/admin-light.png`, fullPage: true });
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.screenshot({ path: `${pictures}/admin-dark.png`, fullPage: true });
  await page.locator('#look-close').focus();
  await page.keyboard.press('Enter');
  const focusBack = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
  // Text that looks like markup, through the page's own hands.
  const markup = "<img src=x onerror=document.title='broken'>";
  const text = await page.evaluate((markup) => {
    const cell = made('td', markup);
    document.body.append(cell);
    const told = cell.children.length === 0 ? cell.textContent : 'markup';
    cell.remove();
    return told;
  }, markup);

  process.stdout.write(
    `${JSON.stringify({
      unknown,
      node: await page.locator('#node').textContent(),
      stage: await page.locator('#stage').textContent(),
      streams: await page.locator('#streams').textContent(),
      connections: (await card('Connections').textContent()).slice(0, 5),
      rate,
      look,
      events,
      oldest,
      facts,
      nodes,
      clusterCards,
      journal: await page.locator('#journal li').allTextContents(),
      focusBack,
      odd: text,
      title: await page.title(),
      errors,
      elsewhere,
    })}\n`,
  );
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
