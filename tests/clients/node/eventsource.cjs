// The npm package `eventsource`: prints every event it dispatches as one line of JSON.
// Usage: node eventsource.cjs URL TYPE… (the names to listen for, besides the unnamed)
const { EventSource } = require('eventsource');

const [url, ...types] = process.argv.slice(2);
const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const source = new EventSource(url);
const show = (event) => say({ event: event.type, data: event.data, id: event.lastEventId });
for (const type of ['message', ...types]) source.addEventListener(type, show);
source.addEventListener('error', () => {
  // CLOSED is for ever: a client that ends there would never come back by itself.
  if (source.readyState === EventSource.CLOSED) {
    say({ event: 'closed' });
    process.exit(1);
  }
});

process.stdin.resume();
process.stdin.on('end', () => {
  source.close();
  process.exit(0);
});
