// Copies standard input to standard output, as streams of WASI.
import { getStdin } from 'wasi:cli/stdin@0.2.10';
import { getStdout } from 'wasi:cli/stdout@0.2.10';

export const run = {
  run() {
    const input = getStdin();
    const output = getStdout();
    for (;;) {
      let bytes;
      try {
        bytes = input.blockingRead(65536n);
      } catch (error) {
        if (error.payload?.tag === 'closed') return;
        throw error;
      }
      for (let at = 0; at < bytes.length; at += 4096)
        output.blockingWriteAndFlush(bytes.subarray(at, at + 4096));
    }
  },
};
