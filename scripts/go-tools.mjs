// node scripts/go-tools.mjs NAME: prints where a program is that tests need and that is written in
// Go, built once into a cache outside of this repository. Where there is no Go, or it cannot be
// built, prints why and exits with code 3: its tests are skipped then, and say so.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fail, main } from './lib.mjs';

const CANNOT = 3;
const BUILD_MS = 15 * 60_000;

/** Program → its package, at one version, so that everybody tests against the same. */
const TOOLS = {
  'csi-sanity': 'github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity@v5.6.0',
  helm: 'helm.sh/helm/v3/cmd/helm@v3.22.0',
};

const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'holdfast', 'go-tools');
/** Where Go's own installer puts it, which a bare PATH may not know of. */
const GO_PLACES = ['go', '/usr/local/go/bin/go', '/usr/lib/go/bin/go'];

function findGo() {
  return GO_PLACES.find((go) => spawnSync(go, ['version'], { stdio: 'ignore' }).status === 0);
}

/** { path } or, when it cannot be had, { reason }. */
export function goTool(name) {
  const source = TOOLS[name];
  if (source === undefined)
    fail(`no program ${name} is known; ${Object.keys(TOOLS).join(', ')} are`);
  const directory = join(CACHE, source.slice(source.lastIndexOf('@') + 1));
  const path = join(directory, name);
  if (existsSync(path)) return { path };
  const go = findGo();
  if (go === undefined) return { reason: `there is no Go here to build ${name} with` };
  console.error(`building ${name}, which takes a minute or a few`);
  mkdirSync(directory, { recursive: true });
  const { status, stderr } = spawnSync(go, ['install', source], {
    env: { ...process.env, GOBIN: directory, GOFLAGS: '' },
    encoding: 'utf8',
    timeout: BUILD_MS,
  });
  if (status === 0 && existsSync(path)) return { path };
  const why = (stderr ?? '').trim().split('\n').at(-1) || 'it took too long';
  return { reason: `${name} could not be built: ${why}` };
}

/** Builds what is not there yet. Those that cannot be had are named, and nothing fails. */
export function ensureGoTools() {
  for (const name of Object.keys(TOOLS)) {
    const { reason } = goTool(name);
    if (reason !== undefined) console.log(`${reason}: tests that need it will be skipped`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main(async ([name]) => {
    const { path, reason } = goTool(name);
    console.log(path ?? reason);
    return path === undefined ? CANNOT : 0;
  });
}
