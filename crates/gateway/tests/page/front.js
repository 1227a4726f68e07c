// A server before the gateway that gives other files for some paths. A driver intercepts what a page asks for, but not what a worklet
// does (Chromium), so what is to fail there has to come over the network.
'use strict';
const http = require('http');
const net = require('net');

/** `given` has text by path, and `null` for what is not there; all else is the gateway's. Where the page is. */
async function front(gateway, given) {
  const { hostname: host, port } = new URL(gateway);
  const server = http.createServer(({ url: path, method, headers }, response) => {
    const file = given[path];
    if (file !== undefined) response.statusCode = file === null ? 404 : 200;
    const asked = http.request({ host, port, path, method, headers: { ...headers, 'if-none-match': '' } }, (answer) => {
      // With the policies of the gateway, or no page may load it.
      for (const [name, value] of Object.entries(answer.headers)) if (!/^(content-length|etag)$/.test(name)) response.setHeader(name, value);
      if (file === undefined) answer.pipe(response);
      else answer.resume().on('end', () => response.end(file ?? ''));
    });
    asked.on('error', () => response.destroy());
    asked.end();
  });
  server.on('upgrade', ({ url: path, rawHeaders }, from, begun) => {
    const to = net.connect(Number(port), host);
    const pairs = rawHeaders.map((value, i) => (i % 2 ? `${value}\r\n` : `${value}: `)).join('');
    to.write(`GET ${path} HTTP/1.1\r\n${pairs}\r\n`);
    to.write(begun);
    from.pipe(to).pipe(from);
    for (const end of [from, to]) end.on('error', () => [from, to].forEach((other) => other.destroy()));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${server.address().port}/`;
}

module.exports = { front };
