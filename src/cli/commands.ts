/**
 * The list of commands. Each stands in a file of its own that is loaded only when it is used, so
 * that starting one stays cheap. A command's file adds it to the program: arguments, options,
 * examples, action; the action throws HoldfastError for whatever ends it.
 */
import type { Command } from 'commander';

export interface CommandEntry {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Not for people: left out of the help. */
  readonly isHidden?: boolean;
  load(): Promise<(program: Command) => void>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'up',
    summary: 'run a whole cluster on this machine, with a volume that is mounted',
    load: async () => (await import('./up.js')).addUpCommand,
  },
  {
    name: 'down',
    summary: 'stop what "holdfast up" runs',
    load: async () => (await import('./down.js')).addDownCommand,
  },
  {
    name: 'cluster',
    summary: 'make a cluster, and show which it is',
    load: async () => (await import('./cluster.js')).addClusterCommands,
  },
  {
    name: 'node',
    summary: 'run a storage node on one or more data directories',
    load: async () => (await import('./node.js')).addNodeCommand,
  },
  {
    name: 'status',
    summary: 'show nodes, disks and volumes, and what is wrong with them',
    load: async () => (await import('./status.js')).addStatusCommand,
  },
  {
    name: 'scrub',
    summary: 'verify every page of every copy, and repair what is rotten',
    load: async () => (await import('./scrub.js')).addScrubCommand,
  },
  {
    name: 'doctor',
    summary: 'find out what is wrong with this machine or the cluster, and what to do',
    load: async () => (await import('./doctor.js')).addDoctorCommand,
  },
  {
    name: 'volume',
    summary: 'create, list, show, grow, remove and restore volumes',
    load: async () => (await import('./volume.js')).addVolumeCommands,
  },
  {
    name: 'machines',
    summary: 'list the machines that drivers have registered',
    load: async () => (await import('./machines.js')).addMachinesCommands,
  },
  {
    name: 'mount',
    summary: 'mount a volume at a directory of this machine',
    load: async () => (await import('./mount.js')).addMountCommand,
  },
  {
    name: 'umount',
    summary: 'commit, unmount and release a volume',
    load: async () => (await import('./umount.js')).addUmountCommand,
  },
  {
    name: 'mounts',
    summary: 'list the mounts of this machine',
    load: async () => (await import('./mounts.js')).addMountsCommand,
  },
  {
    name: 'upgrade-mounts',
    summary: 'replace the daemons of mounts by this version',
    load: async () => (await import('./upgrade-mounts.js')).addUpgradeMountsCommand,
  },
  {
    name: 'sync',
    summary: 'wait until all changes of a mount are on stable storage',
    load: async () => (await import('./sync.js')).addSyncCommand,
  },
  {
    name: 'helpers',
    summary: 'install the helpers of mount(8) and umount(8), for fstab',
    load: async () => (await import('./helpers.js')).addHelpersCommands,
  },
  {
    name: 'docker-plugin',
    summary: 'serve volumes to Docker, as its volume plugin',
    load: async () => (await import('./docker-plugin.js')).addDockerPluginCommand,
  },
  {
    name: 'csi',
    summary: 'serve volumes to Kubernetes and others by the Container Storage Interface',
    load: async () => (await import('./csi.js')).addCsiCommand,
  },
  {
    name: 'agent',
    summary: 'mount volumes for drivers that live in containers',
    load: async () => (await import('./agent.js')).addAgentCommand,
  },
  {
    name: 'runtime',
    summary: 'copy this program to the machine, for mounts that outlive its container',
    load: async () => (await import('./runtime.js')).addRuntimeCommands,
  },
  {
    name: 'mount-start',
    summary: 'start a mount; used by "holdfast agent"',
    isHidden: true,
    load: async () => (await import('./mount-start.js')).addMountStartCommand,
  },
  {
    name: 'mount-daemon',
    summary: 'serve a mount; started by "holdfast mount"',
    isHidden: true,
    load: async () => (await import('./mount-daemon.js')).addMountDaemonCommand,
  },
  {
    name: 'completion',
    summary: 'print a script that completes commands in a shell',
    load: async () => (await import('./completion.js')).addCompletionCommand,
  },
  {
    name: 'log',
    summary: "append to and read a volume's log as plain lines",
    load: async () => (await import('./log.js')).addLogCommands,
  },
  {
    name: 'metadata',
    summary: 'export, import and rebuild what the metadata store holds',
    load: async () => (await import('./metadata.js')).addMetadataCommands,
  },
];
