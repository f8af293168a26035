/**
 * The programs at work on a mount whose daemon is killed, as processes of their own, since their
 * calls wait as long as the mount does.
 *
 * `adoption-load.js fill DIRECTORY FROM TO` makes the files of these numbers, 1000 a directory.
 *
 * `adoption-load.js work DIRECTORY FILES`: over and over it looks at one of the files, reads one,
 * changes the mode of some (without fsync: a successor has to know them all the same), and writes a
 * page of its own with an fsync, until its standard input ends. Each line there is answered, after
 * one more round, by the longest that a call has taken since the last line, in milliseconds.
 */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PAGE_BYTES } from '../src/core/units.js';

const FILES_A_DIRECTORY = 1000;
const FILE_BYTES = 200;
const CHMODS = 10;
const OWN_PAGES = 256;

function pathOf(directory: string, file: number): string {
  return join(directory, `d${Math.floor(file / FILES_A_DIRECTORY)}`, `file-${file}`);
}

function fill(directory: string, from: number, to: number): void {
  const data = Buffer.alloc(FILE_BYTES, 'some bytes, ');
  for (let file = from; file < to; file++) {
    const path = pathOf(directory, file);
    if (file % FILES_A_DIRECTORY === 0) mkdirSync(join(path, '..'));
    writeFileSync(path, data, { flag: 'wx' });
  }
}

class Load {
  readonly #directory: string;
  readonly #files: number;
  readonly #ownPath: string;
  readonly #own: number;
  readonly #page = Buffer.alloc(PAGE_BYTES, 'load');
  #rounds = 0;
  #longestMs = 0;

  constructor(directory: string, files: number) {
    this.#directory = directory;
    this.#files = files;
    this.#ownPath = join(directory, `load-${process.pid}`);
    this.#own = openSync(this.#ownPath, 'wx');
  }

  round(): void {
    this.#rounds += 1;
    this.#timed(() => statSync(this.#some()));
    this.#timed(() => readFileSync(this.#some()));
    const mode = this.#rounds % 2 === 0 ? 0o644 : 0o600;
    for (let i = 0; i < CHMODS; i++) this.#timed(() => chmodSync(this.#some(), mode));
    const at = (this.#rounds % OWN_PAGES) * PAGE_BYTES;
    this.#timed(() => writeSync(this.#own, this.#page, 0, PAGE_BYTES, at));
    this.#timed(() => fsyncSync(this.#own));
  }

  /** Any of the files; its own where there are none. */
  #some(): string {
    if (this.#files === 0) return this.#ownPath;
    return pathOf(this.#directory, Math.floor(Math.random() * this.#files));
  }

  #timed(call: () => unknown): void {
    const began = performance.now();
    call();
    this.#longestMs = Math.max(this.#longestMs, performance.now() - began);
  }

  /** Since the last time. */
  takeLongest(): number {
    const longest = this.#longestMs;
    this.#longestMs = 0;
    return longest;
  }

  close(): void {
    closeSync(this.#own);
  }
}

function work(load: Load): void {
  let asked = 0;
  let isOver = false;
  const input = createInterface({ input: process.stdin });
  input.on('line', () => {
    asked += 1;
  });
  input.on('close', () => {
    isOver = true;
  });
  const round = (): void => {
    if (isOver) {
      load.close();
      return;
    }
    // Asked before the round begins, which so has seen all that happened before it was asked.
    const isAsked = asked > 0;
    load.round();
    if (isAsked) {
      asked -= 1;
      console.log(String(load.takeLongest()));
    }
    setImmediate(round);
  };
  round();
}

const [action = '', directory = '', first = '', second = ''] = process.argv.slice(2);
if (action === 'fill') fill(directory, Number(first), Number(second));
else if (action === 'work') work(new Load(directory, Number(first)));
else throw new Error(`there is no action "${action}"`);
