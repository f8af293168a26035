/**
 * csi-sanity, the standard's own tests, against `holdfast csi` over a real cluster of three nodes:
 * for directories and for devices, undisturbed, and with the driver killed and started again
 * between and during calls. Each of its tests counts as one of ours.
 *
 * HOLDFAST_CSI_ROUNDS says how many rounds with kills there are (default 1; for more, give tap more
 * time: -t 3600); their seeds are printed, and HOLDFAST_CSI_SEED repeats them.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Test, test } from 'tap';
import { RetryProxy } from '../csi-driver/retry-proxy.js';
import { Process } from '../fixtures/processes.js';
import { projectRoot } from '../style/source.js';
import { CsiBed, type CsiDriver } from './csi-bed.js';
import { until } from './mount-bed.js';

const SANITY_MS = 900_000;
const PATIENCE_MS = 60_000;
/** Few, since csi-sanity goes to the limit. */
const DRIVER = { args: ['--agent', 'none', '--max-volumes', '2'] };
const ROUNDS = Number(process.env.HOLDFAST_CSI_ROUNDS ?? 1);
const SEED = Number(process.env.HOLDFAST_CSI_SEED ?? Date.now() % 1_000_000);
/**
 * How often, in the rounds with kills: before a call, and up to `delayMs` after it was sent. A
 * start of the driver takes as long as several calls: the one round that all run has fewer.
 */
const OFTEN = process.env.HOLDFAST_CSI_ROUNDS === undefined ? 0.02 : 0.06;
const KILLED = { before: OFTEN, during: OFTEN, delayMs: 300 };

/** What the driver does not announce, by the names of the tests that are skipped for it. */
const UNANNOUNCED = new RegExp(
  '[Ss]napshot|GroupController|[Vv]olume [Gg]roup|existing source volume|source volume is not' +
    '|[Hh]ealth',
);
/** Said by csi-sanity itself: switched off for everybody. */
const PENDING = /pagination should detect volumes added between pages/;

function sanityProgram(): { readonly path: string } | { readonly reason: string } {
  const script = join(projectRoot(), 'scripts', 'go-tools.mjs');
  const { status, stdout } = spawnSync(process.execPath, [script, 'csi-sanity'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const said = stdout.trim();
  return status === 0 ? { path: said } : { reason: said };
}

interface Case {
  readonly name: string;
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly message: string;
}

/** Of a report as JUnit has it. */
function readReport(file: string): Case[] {
  const cases: Case[] = [];
  const text = readFileSync(file, 'utf8');
  for (const [, attributes = '', , body = ''] of text.matchAll(
    /<testcase ([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g,
  )) {
    const name = plain(/\bname="([^"]*)"/.exec(attributes)?.[1] ?? '');
    const message = plain(/<(?:failure|error)\b[^>]*\bmessage="([^"]*)"/.exec(body)?.[1] ?? '');
    const isBad = /<(failure|error)\b/.test(body);
    const outcome = isBad ? 'failed' : /<skipped\b/.test(body) ? 'skipped' : 'passed';
    if (name.startsWith('[It]')) cases.push({ name: name.slice(5), outcome, message });
  }
  return cases;
}

function plain(text: string): string {
  const entities: Readonly<Record<string, string>> = { lt: '<', gt: '>', quot: '"', amp: '&' };
  return text
    .replace(/&#x?([0-9a-f]+);/gi, (_, code: string) => {
      return String.fromCodePoint(Number.parseInt(code, 16));
    })
    .replace(/&(lt|gt|quot|amp);/g, (_, name: string) => entities[name] ?? '');
}

interface Run {
  readonly access: 'mount' | 'block';
  readonly endpoint: string;
  readonly directory: string;
  readonly program: string;
}

async function runSanity({ access, endpoint, directory, program }: Run): Promise<Case[]> {
  mkdirSync(directory);
  const file = (name: string, text: string): string => {
    writeFileSync(join(directory, name), text);
    return join(directory, name);
  };
  // The longest that the standard allows.
  const secret = `{ key: "${'s'.repeat(4000)}" }`;
  const kinds = ['CreateVolume', 'DeleteVolume', 'ControllerPublishVolume', 'NodeStageVolume'];
  const secrets = kinds.map((kind) => `${kind}Secret: ${secret}\n`).join('');
  const report = join(directory, 'report.xml');
  const process = new Process(program, [
    `--csi.endpoint=${endpoint}`,
    `--csi.mountdir=${join(directory, 'mount')}`,
    `--csi.stagingdir=${join(directory, 'staging')}`,
    `--csi.testvolumeaccesstype=${access}`,
    `--csi.testvolumesize=${2 ** 30}`,
    `--csi.testvolumeexpandsize=${2 ** 31}`,
    '--csi.testnodevolumeattachlimit',
    `--csi.testvolumeparameters=${file('parameters', 'replicas: "3"\n')}`,
    `--csi.testvolumemutableparameters=${file('mutable', 'commitInterval: 2s\n')}`,
    `--csi.secrets=${file('secrets', secrets)}`,
    `--ginkgo.junit-report=${report}`,
    '--ginkgo.no-color',
  ]);
  const timer = setTimeout(() => process.signal('SIGKILL'), SANITY_MS);
  const { code } = await process.exited;
  clearTimeout(timer);
  if (code === null) throw new Error(`csi-sanity did not end: ${process.lines.slice(-20)}`);
  return readReport(report);
}

/** Each test that ran as one of ours; what was skipped must be what is not announced. */
function tell(t: Test, cases: readonly Case[]): void {
  t.ok(cases.length > 80, `${cases.length} tests are there`);
  for (const { name, outcome, message } of cases) {
    if (outcome === 'failed') t.fail(`${name}: ${message}`, { at: null });
    else if (outcome === 'passed') t.pass(name);
  }
  const skipped = cases.filter(({ outcome }) => outcome === 'skipped').map(({ name }) => name);
  const wrongly = skipped.filter((name) => !UNANNOUNCED.test(name) && !PENDING.test(name));
  t.same(wrongly, [], 'everything that is announced was tested');
  t.comment(`${skipped.length} tests of csi-sanity are for what is not announced`);
}

/** Nothing of what csi-sanity did is left, in the cluster and on the machine. */
async function tellEnd(t: Test, bed: CsiBed, driver: CsiDriver): Promise<void> {
  const { entries } = await driver.call('ListVolumes');
  const names = entries.map(
    ({ volume }: { volume: { volume_context: { name: string } } }) => volume.volume_context.name,
  );
  t.same(new Set(names), new Set(['db', 'events']), 'no volume is left but those of the bed');
  await until('nothing is left', () => bed.mounts().length === 0, 20_000).catch(() => {});
  t.same(await bed.leftovers(), [], 'no mount, device, process or state is left');
}

const sanity = sanityProgram();
const skip = 'reason' in sanity ? sanity.reason : false;
const program = 'path' in sanity ? sanity.path : '';

for (const access of ['mount', 'block'] as const) {
  test(`csi-sanity, access type ${access}`, { skip, timeout: SANITY_MS }, async (t) => {
    const bed = await CsiBed.start();
    t.teardown(() => bed.close());
    const driver = await bed.driver('node-1', DRIVER);
    const { endpoint } = driver;
    const directory = join(bed.bed.root, 'sanity');
    tell(t, await runSanity({ access, endpoint, directory, program }));
    await tellEnd(t, bed, driver);
    t.notMatch(driver.log, /ssssssss/, 'secrets are not logged');
  });
}

/** The same numbers for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function roundWithKills(t: Test, access: 'mount' | 'block', seed: number): Promise<void> {
  t.comment(`seed ${seed}, access type ${access}`);
  const bed = await CsiBed.start();
  t.teardown(() => bed.close());
  const driver = await bed.driver('node-1', DRIVER);
  const random = randomFrom(seed);
  let kills = 0;
  let restarting: Promise<void> | null = null;
  let isOver = false;
  const kill = async (): Promise<void> => {
    if (isOver) return;
    restarting ??= (async () => {
      kills += 1;
      await driver.restart();
      restarting = null;
    })();
    await restarting;
  };
  const listen = `unix://${join(bed.bed.root, 'proxy.sock')}`;
  const proxy = new RetryProxy({
    ...{ listen, driver: driver.endpoint, patienceMs: PATIENCE_MS },
    beforeCall: async () => {
      if (random() < KILLED.before) await kill();
    },
    duringCall: () => {
      if (random() >= KILLED.during) return;
      void sleep(random() * KILLED.delayMs).then(kill);
    },
  });
  await proxy.start();
  t.teardown(() => proxy.close());
  const directory = join(bed.bed.root, 'sanity');
  tell(t, await runSanity({ access, endpoint: listen, directory, program }));
  isOver = true;
  await restarting;
  t.ok(kills > 10, `the driver was killed ${kills} times in ${proxy.calls} calls`);
  t.comment(`${proxy.retries} calls were repeated`);
  await tellEnd(t, bed, driver);
}

for (let round = 0; round < ROUNDS; round++) {
  const access = (SEED + round) % 2 === 0 ? 'mount' : 'block';
  const name = `csi-sanity with kills, round ${round + 1} of ${ROUNDS}`;
  test(name, { skip, timeout: SANITY_MS }, (t) => roundWithKills(t, access, SEED + round));
}
