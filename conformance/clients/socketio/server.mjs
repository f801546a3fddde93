// One instance of a stateful application: a socket.io server, for rolling.py.
//
//     node server.mjs NAME PORT COOKIE
//
// Echoes each message with its name. Prints `ready` when it listens, `unknown` for each request with a session id that it does
// not know (what the rolling restart is about), and `over` before it ends. SIGTERM drains: whoever begins a session is
// sent away without the cookie that led here, the clients are asked to leave, and when the last has left, the process
// ends. Until then it listens: a client that polls comes on a new connection whenever the proxy has no idle one.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(fileURLToPath(new URL("../../../.cache/node/", import.meta.url)));
const { Server } = require("socket.io");

const [name, port, cookie] = process.argv.slice(2);
let draining = false;

const http = createServer();
const isNew = (request) => !new URL(request.url, "http://instance").searchParams.has("sid");
// Before socket.io's own listener.
http.prependListener("request", (request, response) => {
  if (draining && isNew(request)) response.setHeader("set-cookie", `${cookie}=; Max-Age=0; Path=/`);
});
const io = new Server(http, {
  pingInterval: 2000,
  allowRequest: (request, decide) => {
    const refused = draining && isNew(request);
    decide(refused ? "draining" : null, !refused);
  },
});

io.on("connection", (socket) => {
  if (draining) socket.emit("leave");
  socket.on("say", (text, answer) => answer(`${name}: ${text}`));
});
io.engine.on("connection_error", ({ code, message, req }) => {
  // Code 1 is "Session ID unknown".
  if (code === 1) console.log(`unknown ${req.method} ${req.url} ${message}`);
});
http.listen(Number(port), "127.0.0.1", () => console.log("ready"));

process.on("SIGTERM", () => {
  draining = true;
  io.emit("leave");
  const look = setInterval(() => {
    if (io.engine.clientsCount > 0) return;
    clearInterval(look);
    console.log("over");
    http.close();
    // What is still being written is written; sessions there are none.
    setTimeout(() => process.exit(0), 100);
  }, 20);
});
