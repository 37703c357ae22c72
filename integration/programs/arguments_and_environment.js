// Prints its arguments and its environment, one a line, without the program's own name.
import { getArguments, getEnvironment } from 'wasi:cli/environment@0.2.10';

export const run = {
  run() {
    for (const argument of getArguments().slice(1)) console.log(`argument ${argument}`);
    for (const [name, value] of getEnvironment()) console.log(`environment ${name}=${value}`);
  },
};
