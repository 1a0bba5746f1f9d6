// Whether the server is there. Once it is found gone, asks `/health` until it is back.

import { healthy } from "./api.js";

const PAUSES = [1000, 2000, 4000, 8000]; // milliseconds; the last one repeats

let up = true;
let changed = () => {};

export const isUp = () => up;
export const onConnection = (callback) => {
  changed = callback;
};

/** Says that the server seems gone: asks it once, and if it is silent looks for it until it is back. */
export async function suspect() {
  if (!up || (await healthy()) || !up) return;
  up = false;
  changed(false);
  look(0);
}

function look(attempt) {
  setTimeout(
    async () => {
      if (await healthy()) {
        up = true;
        changed(true);
      } else {
        look(attempt + 1);
      }
    },
    PAUSES[Math.min(attempt, PAUSES.length - 1)],
  );
}
