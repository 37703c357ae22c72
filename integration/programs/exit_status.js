// Exits with the status that its argument names.
import { getArguments } from 'wasi:cli/environment@0.2.12';
import { exitWithCode } from 'wasi:cli/exit@0.2.12';

export const run = {
  run() {
    exitWithCode(Number(getArguments()[1]));
  },
};
