// Clients of socket.io through the proxy, for rolling.py.
//
//     node clients.mjs URL COUNT
//
// Every third client stays with long polling, every third begins with a WebSocket, the others begin with polling and
// upgrade. `withCredentials` makes the client keep cookies, as a browser does. Each client sends a message at a time and
// waits for its echo. Told to leave, it disconnects and connects anew, as an application does that is asked to
// reconnect. Prints a JSON object for each line on its standard input: how many are connected, echoes, and what went wrong.
import { createInterface } from "node:readline";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(fileURLToPath(new URL("../../../.cache/node/", import.meta.url)));
const { io } = require("socket.io-client");

const [url, count] = process.argv.slice(2);
const PAUSE = 20;
// For a person's sake only: an echo that takes this long is lost.
const PATIENCE = 20_000;
const tally = { echoes: 0, wrong: 0, lost: 0, moved: 0, upgrades: 0, leaves: 0, errors: {}, disconnects: {} };
const note = (where, what) => {
  where[what] = (where[what] ?? 0) + 1;
};

function start(nth) {
  const transports = [["polling"], ["websocket"], ["polling", "websocket"]][nth % 3];
  const socket = io(url, {
    transports,
    withCredentials: true,
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 100,
  });
  let home = null;
  let leaving = false;
  let number = 0;

  const say = () => {
    if (!socket.connected) return;
    const text = `client ${nth}, message ${(number += 1)}`;
    socket.timeout(PATIENCE).emit("say", text, (error, echo) => {
      if (error) {
        tally.lost += 1;
      } else {
        const [instance, ...rest] = echo.split(": ");
        if (rest.join(": ") !== text) tally.wrong += 1;
        if (home !== null && home !== instance) tally.moved += 1;
        home = instance;
        tally.echoes += 1;
      }
      if (leaving) {
        leaving = false;
        home = null;
        socket.disconnect();
        socket.connect();
      } else {
        setTimeout(say, PAUSE);
      }
    });
  };
  socket.on("leave", () => {
    tally.leaves += 1;
    leaving = true;
  });
  socket.on("connect", () => {
    home = null;
    socket.io.engine.once("upgrade", () => {
      tally.upgrades += 1;
    });
    say();
  });
  socket.on("connect_error", (error) => {
    const said = error.context?.responseText ?? "";
    note(tally.errors, `${error.message}${error.description ? ` ${error.description.message ?? error.description}` : ""} ${said}`.trim());
  });
  socket.on("disconnect", (reason) => note(tally.disconnects, reason));
  return socket;
}

const sockets = Array.from({ length: Number(count) }, (_, nth) => start(nth));
const lines = createInterface({ input: process.stdin });
lines.on("line", () => {
  console.log(JSON.stringify({ connected: sockets.filter((each) => each.connected).length, ...tally }));
});
lines.on("close", () => {
  for (const each of sockets) each.disconnect();
  setTimeout(() => process.exit(0), 200);
});
