#!/usr/bin/env node
/**
 * What is installed as `holdfast`: makes the thread pool large enough for a node's disks, and goes
 * on in main.ts. Node.js makes the pool at its first use, and loading an ES module is one; so this
 * must be CommonJS, and cannot have its numbers from core/limits.ts (a test compares them).
 */
// DISK_MAX_THREADS, NODE_SPARE_THREADS and NODE_MAX_DISKS there.
const DISK_THREADS = 4;
const SPARE_THREADS = 4;
const MAX_DISKS = 32;

/**
 * How many disks `holdfast node` is given. The configuration file is not read here: for whatever it
 * may name, threads that have nothing to do cost about a megabyte.
 */
function disksOf(args: readonly string[], env: NodeJS.ProcessEnv): number {
  const given = args.filter((word) => /^--data-dir(?:=|$)/.test(word)).length;
  const named = given || (env.HOLDFAST_DATA_DIR || undefined)?.split(',').length || MAX_DISKS;
  return Math.min(named, MAX_DISKS);
}

const [command, second] = process.argv.slice(2);
// "node ls" and the like have no disks.
if (command === 'node' && (second === undefined || second.startsWith('-'))) {
  const threads = disksOf(process.argv, process.env) * DISK_THREADS + SPARE_THREADS;
  process.env.UV_THREADPOOL_SIZE ||= `${threads}`;
}
void import('./main.js').then(({ main }) => main());
