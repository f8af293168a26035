// Makes a fresh clone ready: checks Node, installs the packages of the lock file, builds. With
// --test it also installs the Debian packages that the tests drive (etcd, fio, mkfs.xfs, …), and
// builds the programs in Go that they run where there is a Go (go-tools.mjs).
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ensureGoTools } from './go-tools.mjs';
import { ensureBuilt, fail, main, output, ROOT, run, tool } from './lib.mjs';

const MIN_NODE = [20, 15];

/** Command → the Debian package that has it. */
const TEST_COMMANDS = {
  etcd: 'etcd-server',
  etcdctl: 'etcd-client',
  fio: 'fio',
  'mkfs.ext4': 'e2fsprogs',
  'mkfs.xfs': 'xfsprogs',
  mount: 'mount',
  ip: 'iproute2',
  iptables: 'iptables',
  openssl: 'openssl',
  python3: 'python3',
  setfacl: 'acl',
  setfattr: 'attr',
  git: 'git',
  pg_lsclusters: 'postgresql',
  rsync: 'rsync',
  sqlite3: 'sqlite3',
  dockerd: 'docker.io',
  busybox: 'busybox-static',
};

export function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1])) return;
  fail(`Node ${MIN_NODE.join('.')} or newer is needed, this is ${process.versions.node}`);
}

/** Whether node_modules holds what the lock file says (optional packages may be missing). */
function packagesMatchLock() {
  const installedPath = join(ROOT, 'node_modules', '.package-lock.json');
  if (!existsSync(installedPath)) return false;
  const read = (path) => JSON.parse(readFileSync(path, 'utf8')).packages;
  const installed = read(installedPath);
  return Object.entries(read(join(ROOT, 'package-lock.json'))).every(([path, locked]) => {
    if (path === '') return true;
    const found = installed[path];
    return found === undefined ? locked.optional === true : found.version === locked.version;
  });
}

export async function ensurePackages() {
  if (!packagesMatchLock()) {
    console.log('installing npm packages, which takes a minute or so');
    const code = await run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund']);
    if (code !== 0) fail('npm ci failed; see the errors above');
  }
  await ensureTestRunner();
}

/**
 * tap compiles its set of plugins into its own package. The set that it ships with has the
 * TypeScript plugin, which cannot load this compiler; .taprc leaves it out.
 */
async function ensureTestRunner() {
  const built = join(ROOT, 'node_modules/@tapjs/test/test-built/dist/esm/index.js');
  if (existsSync(built) && !readFileSync(built, 'utf8').includes('@tapjs/typescript')) return;
  const { code, text } = output(tool('tap'), ['build']);
  if (code !== 0) fail(`tap build failed:\n${text}`);
}

function hasCommand(name) {
  const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  const env = { ...process.env, PATH: `${process.env.PATH ?? ''}:${path}` };
  return spawnSync('sh', ['-c', `command -v ${name}`], { env, stdio: 'ignore' }).status === 0;
}

export function missingTestPackages() {
  const missing = Object.entries(TEST_COMMANDS).filter(([command]) => !hasCommand(command));
  return missing.map(([, debianPackage]) => debianPackage);
}

export function ensureTestPackages() {
  const missing = missingTestPackages();
  if (missing.length === 0) return;
  const names = missing.join(' ');
  if (!hasCommand('apt-get')) fail(`missing for the tests, and there is no apt-get: ${names}`);
  if (process.getuid?.() !== 0) fail(`missing for the tests; as root: apt-get install ${names}`);
  console.log(`installing for the tests: ${names}`);
  withoutStartingServices(() => {
    apt(['update'], 'apt-get update failed');
    apt(['install', '--no-install-recommends', ...missing], `apt-get cannot install ${names}`);
  });
  if (missing.includes('etcd-server')) keepServiceOff('etcd.service');
  if (missing.includes('postgresql')) keepServiceOff('postgresql.service');
  if (missing.includes('docker.io')) keepServiceOff('docker.socket', 'docker.service');
  const still = missingTestPackages();
  if (still.length > 0) fail(`still missing after apt-get install: ${still.join(' ')}`);
}

function apt(args, message) {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const options = ['-qq', '-y', '-o', 'DPkg::Lock::Timeout=120', '-o', 'Dpkg::Use-Pty=0'];
  const { status, stdout, stderr } = spawnSync('apt-get', [...options, ...args], {
    env,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (status === 0) return;
  const why = `${stdout}\n${stderr}`.split('\n').filter((line) => /^(E:|dpkg: error)/.test(line));
  fail(`${message}: ${why[0] ?? `exit code ${status}`}`);
}

/**
 * Debian asks /usr/sbin/policy-rc.d before it starts the service of a package; 101 is "no". The
 * tests start their own etcd, and one more on the default port would only be in the way.
 */
function withoutStartingServices(action) {
  const policy = '/usr/sbin/policy-rc.d';
  const kept = `${policy}.kept-by-holdfast`;
  const ignore = () => {}; // a signal ends apt-get; what is below must still be put back
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, ignore);
  if (existsSync(kept)) renameSync(kept, policy); // left by a setup that was killed
  const existed = existsSync(policy);
  if (existed) renameSync(policy, kept);
  try {
    writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
    action();
  } finally {
    rmSync(policy, { force: true });
    if (existed) renameSync(kept, policy);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, ignore);
  }
}

/** Keeps services that came only as companions of their programs from starting at the next boot. */
function keepServiceOff(...services) {
  if (!existsSync('/run/systemd/system')) return;
  spawnSync('systemctl', ['disable', '--quiet', ...services], { stdio: 'ignore' });
}

async function setup(args) {
  const unknown = args.filter((arg) => arg !== '--test');
  if (unknown.length > 0) fail(`unknown argument ${unknown[0]}; the only one is --test`);
  checkNode();
  if (args.includes('--test')) {
    ensureTestPackages();
    ensureGoTools();
  }
  await ensurePackages();
  await ensureBuilt();
  return 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(setup);
