/**
 * The seam to giving a group the use of all files below a directory, as an orchestrator wants it
 * for the group of a pod. Real: io/node/group-access.ts.
 */
export interface GroupAccess {
  /**
   * Makes everything below `directory` belong to the group, readable and writable by it, and new
   * files too (the set-group-id bit of directories). The directory itself is done last, and when it
   * is found as it should be nothing else is looked at: so a change that was cut short is made
   * again. Follows no symbolic link, whoever puts one there meanwhile. Rejects with UNAVAILABLE.
   */
  grant(directory: string, group: number): Promise<void>;
}
