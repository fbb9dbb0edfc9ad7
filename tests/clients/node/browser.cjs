// A page of another origin in Chromium, with nothing but the native EventSource: prints every event
// it is given as one line of JSON, every request for the stream with its Last-Event-ID, and every answer
// with its protocol. Certificates are not looked at.
// Usage: node browser.cjs CHROMIUM URL TYPE…
const http = require('node:http');
const { chromium } = require('playwright-core');

const [executablePath, url, ...types] = process.argv.slice(2);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

(async () => {
  const site = http.createServer((_, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end('<!doctype html><title>a page</title>');
  });
  await new Promise((resolve) => site.listen(0, '127.0.0.1', resolve));

  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  page.on('request', async (request) => {
    if (request.url() !== url) return;
    const headers = await request.allHeaders().catch(() => request.headers());
    say({ event: 'request', last_event_id: headers['last-event-id'] ?? null, origin: headers.origin ?? null });
  });
  const network = await page.context().newCDPSession(page);
  await network.send('Network.enable');
  network.on('Network.responseReceived', ({ response }) => {
    if (response.url === url) say({ event: 'response', status: response.status, protocol: response.protocol });
  });
  page.on('pageerror', (error) => say({ event: 'pageerror', data: String(error) }));
  await page.exposeFunction('say', say);
  await page.goto(`http://127.0.0.1:${site.address().port}/`);
  await page.evaluate(
    ([url, types]) => {
      const source = new EventSource(url);
      const show = (event) => window.say({ event: event.type, data: event.data, id: event.lastEventId });
      for (const type of ['message', ...types]) source.addEventListener(type, show);
      source.addEventListener('error', () => {
        if (source.readyState === EventSource.CLOSED) window.say({ event: 'closed' });
      });
    },
    [url, types],
  );

  await new Promise((resolve) => {
    process.stdin.resume();
    process.stdin.on('end', resolve);
  });
  await browser.close();
  site.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
