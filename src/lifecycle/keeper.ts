/**
 * The keeper: a shell that holds a mount's FUSE descriptor as fd 3 while the daemon, its child,
 * serves it. A daemon that dies leaves no mount that answers nothing: the keeper takes it out of
 * the tree, says why in the log, and ends. It is a few kilobytes of sh, needs no upgrade, and never
 * touches the mount point itself.
 *
 * Shared with the daemon: its exit codes, the files of the state directory, and the lines that
 * daemon and launcher say to each other while a mount starts.
 */
import { HoldfastError } from '../core/errors.js';

/** Files of a mount's state directory. */
export const StateFile = {
  /** MountSpec. */
  SPEC: 'spec.json',
  /** ProcessIdentity of the keeper. */
  KEEPER: 'keeper.json',
  /** Which volume the daemon took over, and under which owner id. */
  OWNER: 'owner.json',
  /** MAJOR:MINOR of the mounted filesystem; there once it is mounted. */
  DEVICE: 'device',
  /** What INIT settled, for whoever takes the descriptor over. */
  INIT: 'init.json',
  /** Exit status of a daemon that ended badly. */
  ENDED: 'ended',
  /** The control socket. */
  CONTROL: 'control',
} as const;

/** What the launcher tells a daemon that has loaded the volume. */
export const MOUNTED_LINE = 'mounted';

/** What the daemon tells its launcher, one JSON object a line. */
export type DaemonEvent =
  | { readonly event: 'progress'; readonly text: string }
  /** The volume is taken over and loaded: mount now. */
  | { readonly event: 'loaded' }
  /** The kernel has been answered. */
  | { readonly event: 'ready' }
  | { readonly event: 'failed'; readonly fault: PlainFault };

/** A HoldfastError as data. */
export interface PlainFault {
  readonly code: HoldfastError['code'];
  readonly message: string;
  readonly retryable: boolean;
  readonly hint?: string;
}

export function plainFault(fault: HoldfastError): PlainFault {
  const { code, message, retryable, hint } = fault;
  return { code, message, retryable, ...(hint === undefined ? {} : { hint }) };
}

export function faultOf({ code, message, ...options }: PlainFault): HoldfastError {
  return new HoldfastError(code, message, options);
}

/**
 * $1 state directory, $2 mount point, then the daemon's command line. The daemon's standard input
 * and output are those of the launcher; the keeper lets go of them, so that each side sees the
 * other's end. A state directory that was never mounted is removed, and so is one whose daemon
 * ended in order.
 */
export const KEEPER_SCRIPT = `
state=$1 directory=$2
shift 2
cd /
trap '' HUP
trap 'kill -TERM "$daemon" 2>/dev/null' TERM INT
exec 4<&0
"$@" <&4 4<&- &
daemon=$!
exec 4<&- </dev/null >/dev/null
while :; do
  wait "$daemon"
  status=$?
  [ "$status" -gt 128 ] && kill -0 "$daemon" 2>/dev/null || break
done
exec 3<&-
device=$(cat "$state/${StateFile.DEVICE}" 2>/dev/null)
if [ -n "$device" ] && grep -q "^[0-9]* [0-9]* $device " /proc/self/mountinfo; then
  umount -i -c -l -- "$directory" && echo "$directory was unmounted" >&2
fi
if [ "$status" -eq 0 ] || [ -z "$device" ]; then
  rm -rf -- "$state"
  exit "$status"
fi
echo "the mount daemon of $directory ended with status $status" >&2
echo "$status" > "$state/${StateFile.ENDED}"
rm -f -- "$state/${StateFile.CONTROL}"
exit "$status"
`;
