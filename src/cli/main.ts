#!/usr/bin/env node
/**
 * The command line program: finds the command, loads its file, runs it, and turns whatever goes
 * wrong into one line and an exit code (errors.ts).
 */
import { realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { invalid } from '../core/errors.js';
import { COMMANDS } from './commands.js';
import { exitCodesHelp, reportFailure } from './errors.js';
import { programVersion } from './version.js';

/** Runs one command line (without node and script); resolves to the exit code. */
export async function run(args: readonly string[]): Promise<number> {
  let program: Command | null = null;
  try {
    program = await buildProgram(args);
    await program.parseAsync([...args], { from: 'user' });
    // A command that did what it should may have found that something is wrong.
    return Number(process.exitCode ?? 0);
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) return fail(thrown, args);
    // Help and version are no failures; commander has printed them.
    return thrown.exitCode === 0 ? 0 : fail(usageFault(thrown, program, args), args);
  }
}

function fail(thrown: unknown, args: readonly string[]): number {
  const { line, exitCode } = reportFailure(thrown, args.includes('--json'));
  process.stderr.write(`${line}\n`);
  return exitCode;
}

function usageFault(
  error: CommanderError,
  program: Command | null,
  args: readonly string[],
): Error {
  const [first, second] = args.filter((word) => !word.startsWith('-'));
  if (first === 'help' && second !== undefined) {
    return invalid(`unknown command '${second}'`, 'See "holdfast --help" for what there is.');
  }
  const used = commandPath(program, args);
  if (error.code === 'commander.help') {
    const message = used === 'holdfast' ? 'no command was given' : `"${used}" needs a command`;
    return invalid(message, `See "${used} --help" for what there is.`);
  }
  const message = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  return invalid(message, `See "${used} --help".`);
}

/** "holdfast volume create": as far as the words name commands. */
function commandPath(program: Command | null, args: readonly string[]): string {
  let at = program;
  const names = ['holdfast'];
  for (const word of args) {
    at = at?.commands.find((command) => command.name() === word) ?? null;
    if (at === null) break;
    names.push(word);
  }
  return names.join(' ');
}

/** Completes the others, and so needs them all. */
const COMPLETION = 'completion';

/** Only the command that is used is loaded; the others are there by name, for the help. */
async function buildProgram(args: readonly string[]): Promise<Command> {
  const program = new Command('holdfast')
    .description('Persistent volumes for containers, replicated across machines.')
    .version(programVersion())
    .exitOverride()
    // What follows a command's name is the command's own: "node" and "node ls" both have --json.
    .enablePositionalOptions()
    .configureOutput({ writeErr: () => {}, outputError: () => {} })
    .addHelpText('afterAll', ({ command }) =>
      command.parent === null ? exitCodesHelp() : '\nExit codes: see "holdfast --help".',
    );
  const words = args.filter((word) => !word.startsWith('-'));
  const wanted = words[0] === 'help' ? words[1] : words[0];
  for (const { name, summary, isHidden = false, load } of COMMANDS) {
    if (name === wanted || wanted === COMPLETION) (await load())(program);
    else program.command(name, { hidden: isHidden }).description(summary);
  }
  return program;
}

/**
 * Whoever read our output ("| head") has gone: what is printed goes nowhere, the work is ended in
 * order.
 */
function onOutputError(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') onUncaught(error);
}

/** A bug stops the process at once, whatever it was doing: state in memory is not to be trusted. */
function onUncaught(thrown: unknown): void {
  process.exit(fail(thrown, process.argv));
}

/** Runs this process's command line, and takes what nobody else takes. */
export async function main(): Promise<void> {
  process.on('uncaughtException', onUncaught);
  process.on('unhandledRejection', onUncaught);
  process.stdout.on('error', onOutputError);
  // What a library warns its users' programmers of is nothing to those who run ours, or parse it.
  process.noDeprecation = true;
  const exitCode = await run(process.argv.slice(2));
  await Promise.all([process.stdout, process.stderr].map(printed));
  // Nothing that is left is worth waiting for: gRPC cannot give up connecting to a member of etcd
  // that is silent, and the kernel tries that for two minutes.
  process.exit(exitCode);
}

/** Resolves once all that was written has gone out, or cannot. */
function printed(stream: NodeJS.WriteStream): Promise<void> {
  // An error of what was written before is told in this turn: onOutputError comes first.
  return new Promise((resolve) => stream.write('', () => setImmediate(resolve)));
}

// holdfast.cts calls it; so may be started what is no node, and needs no larger thread pool.
const script = process.argv[1];
if (script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url)) await main();
