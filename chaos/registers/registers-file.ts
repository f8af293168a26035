/** The file of registers: how many pages, and which numbers are whose. */
export const REGISTERS = 6;
/** Workers count from multiples of this; far more than any of them comes to. */
export const VALUES_A_WORKER = 100_000_000;
