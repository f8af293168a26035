/** Giving a group the use of files, on a real directory: it needs root, as the driver does. */
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { nodeGroupAccess } from '../../src/io/node/group-access.js';

const GROUP = 4711;
const skip = process.getuid?.() === 0 ? false : 'changing groups needs root';

function directory(t: Test): string {
  const root = mkdtempSync(join(tmpdir(), 'hf-group-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  return root;
}

function look(path: string): string {
  const { gid, mode } = statSync(path);
  return `${gid}:${(mode & 0o7777).toString(8)}`;
}

test('everything below belongs to the group, and only that', { skip }, async (t) => {
  const root = directory(t);
  const [volume, outside] = [join(root, 'volume'), join(root, 'outside')];
  mkdirSync(join(volume, 'a', 'b'), { recursive: true });
  writeFileSync(outside, 'not of the volume', { mode: 0o600 });
  writeFileSync(join(volume, 'a', 'b', 'file'), '', { mode: 0o600 });
  writeFileSync(join(volume, 'a', 'tool'), '', { mode: 0o600 });
  chmodSync(join(volume, 'a', 'tool'), 0o4755);
  symlinkSync(outside, join(volume, 'a', 'link'));
  symlinkSync(root, join(volume, 'up'));
  await nodeGroupAccess.grant(volume, GROUP);
  t.equal(look(volume), `${GROUP}:2775`);
  t.equal(look(join(volume, 'a', 'b')), `${GROUP}:2775`);
  t.equal(look(join(volume, 'a', 'b', 'file')), `${GROUP}:660`);
  t.equal(look(join(volume, 'a', 'tool')), `${GROUP}:4775`, 'what it may do otherwise stays');
  t.equal(look(outside), '0:600', 'no link was followed');
});

test('done once, and again when it was cut short', { skip }, async (t) => {
  const volume = directory(t);
  await nodeGroupAccess.grant(volume, GROUP);
  writeFileSync(join(volume, 'later'), '', { mode: 0o600 });
  await nodeGroupAccess.grant(volume, GROUP);
  t.equal(look(join(volume, 'later')), `${GROUP}:600`, 'the directory says that it was done');
  chmodSync(volume, 0o755);
  await nodeGroupAccess.grant(volume, GROUP);
  t.equal(look(join(volume, 'later')), `${GROUP}:660`);
});

test('files that become links meanwhile lead nowhere else', { skip }, async (t) => {
  const root = directory(t);
  const [volume, secrets] = [join(root, 'volume'), join(root, 'secrets')];
  mkdirSync(join(volume, 'd'), { recursive: true });
  mkdirSync(secrets);
  for (let at = 0; at < 50; at++) {
    writeFileSync(join(secrets, `f${at}`), '', { mode: 0o600 });
    writeFileSync(join(volume, 'd', `f${at}`), '');
  }
  let isOver = false;
  const swapping = (async () => {
    while (!isOver) {
      renameSync(join(volume, 'd'), join(volume, 'was'));
      symlinkSync(secrets, join(volume, 'd'));
      await new Promise((resolve) => setImmediate(resolve));
      rmSync(join(volume, 'd'));
      renameSync(join(volume, 'was'), join(volume, 'd'));
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  for (let turn = 0; turn < 20; turn++) {
    chmodSync(volume, 0o755);
    await nodeGroupAccess.grant(volume, GROUP);
  }
  isOver = true;
  await swapping;
  for (let at = 0; at < 50; at++) t.equal(look(join(secrets, `f${at}`)), '0:600');
});

test('what is not there is a fault that may pass', async (t) => {
  const missing = join(directory(t), 'missing');
  await t.rejects(nodeGroupAccess.grant(missing, GROUP), { code: 'UNAVAILABLE', retryable: true });
});
