/**
 * `holdfast mount-start REQUEST RESULT`: the launcher of one mount, started by the agent and never
 * by people. Its processes stay where it was started: in the scope of their own.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Command } from 'commander';
import { asFault } from '../core/errors.js';
import { answerOf, faultAnswerOf } from '../lifecycle/agent-protocol.js';
import { LAUNCH_COMMAND } from '../lifecycle/launched-mounts.js';
import type { MountRequest } from '../lifecycle/mount-types.js';
import { startMount } from '../lifecycle/start-mount.js';
import { EXIT_CODES } from './errors.js';
import { mountDeps } from './machine.js';

export function addMountStartCommand(program: Command): void {
  program
    .command(`${LAUNCH_COMMAND} <request> <result>`, { hidden: true })
    .description('start a mount; used by "holdfast agent"')
    .action((request: string, result: string) => mountStart(request, result));
}

async function mountStart(requestFile: string, resultFile: string): Promise<void> {
  const request = JSON.parse(readFileSync(requestFile, 'utf8')) as MountRequest;
  let answer: string;
  try {
    answer = answerOf(await startMount(mountDeps(process.env), request));
  } catch (thrown) {
    const fault = asFault(thrown, 'UNAVAILABLE');
    answer = faultAnswerOf(fault);
    process.exitCode = EXIT_CODES[fault.code];
  }
  try {
    writeFileSync(`${resultFile}.new`, answer, { mode: 0o600 });
    renameSync(`${resultFile}.new`, resultFile);
  } catch {
    // Whoever waited for it has cleaned up; what was started is found by who comes next.
  }
}
