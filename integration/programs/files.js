// Makes, reads, lists, renames and removes files in its directory /data, by the interfaces of WASI.
import { getDirectories } from 'wasi:filesystem/preopens@0.2.6';
import { Descriptor } from 'wasi:filesystem/types@0.2.6';

const text = (bytes) => new TextDecoder().decode(bytes);
const bytes = (string) => new TextEncoder().encode(string);

function equal(found, expected) {
  if (found !== expected) throw new Error(`${found} is not ${expected}`);
}

export const run = {
  run() {
    const [data] = getDirectories().find(([, name]) => name === '/data');
    data.createDirectoryAt('directory');
    const directory = data.openAt({}, 'directory', { directory: true }, { read: true, mutateDirectory: true });
    const file = directory.openAt({}, 'first', { create: true, exclusive: true }, { read: true, write: true });
    equal(file.write(bytes('one\n'), 0n), 4n);
    file.appendViaStream().blockingWriteAndFlush(bytes('two\n'));
    equal(text(file.read(100n, 0n)[0]), 'one\ntwo\n');
    directory.renameAt('first', directory, 'second');
    const names = [];
    const entries = directory.readDirectory();
    for (let entry; (entry = entries.readDirectoryEntry()); ) names.push(`${entry.type} ${entry.name}`);
    equal(names.join(), 'regular-file second');
    file.setSize(3n);
    equal(directory.statAt({}, 'second').size, 3n);
    directory.unlinkFileAt('second');
    data.removeDirectoryAt('directory');
    let error;
    try {
      data.openAt({}, '../etc/passwd', {}, { read: true });
    } catch (thrown) {
      error = thrown.payload;
    }
    equal(error, 'not-permitted');

    // What the host put there is readable, and what is left there stays for the host.
    const from = data.openAt({}, 'from-host', {}, { read: true }).read(1000n, 0n)[0];
    const to = data.openAt({}, 'from-guest', { create: true }, { write: true });
    to.write(bytes(`seen: ${text(from)}`), 0n);
    console.log('ok');
  },
};
