// Requests by undici with the cookie jar of tough-cookie, for jars.py.
//
//     node jar.mjs URL COUNT
//
// Prints a JSON list of [status, host, whether a cookie was set], an entry for each request.
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(fileURLToPath(new URL("../../.cache/node/", import.meta.url)));
const { Agent, request } = require("undici");
const { CookieJar } = require("tough-cookie");

const [url, count] = process.argv.slice(2);
const jar = new CookieJar();
const dispatcher = new Agent({ connections: 1 });
const found = [];
for (let nth = 0; nth < Number(count); nth += 1) {
  const cookie = await jar.getCookieString(url);
  const { statusCode, headers, body } = await request(url, { dispatcher, headers: cookie ? { cookie } : {} });
  await body.dump();
  const lines = [headers["set-cookie"] ?? []].flat();
  for (const line of lines) await jar.setCookie(line, url);
  found.push([statusCode, headers["x-host"], lines.length > 0]);
}
await dispatcher.close();
console.log(JSON.stringify(found));
