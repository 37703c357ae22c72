// The wall clock is of this century, the monotonic clock moves on by what is slept, at least.
import { now, resolution, subscribeDuration } from 'wasi:clocks/monotonic-clock@0.2.10';
import { now as wallNow } from 'wasi:clocks/wall-clock@0.2.10';

export const run = {
  run() {
    const before = now();
    subscribeDuration(20_000_000n).block();
    if (now() - before < 20_000_000n || resolution() < 1n) throw new Error('too early');
    if (Math.abs(Number(wallNow().seconds) - Date.now() / 1000) > 5) throw new Error('two times');
    console.log(String(wallNow().seconds));
  },
};
