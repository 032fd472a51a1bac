/* SPDX-License-Identifier: GPL-2.0 */
#ifndef WSRCTL_SIMULATE_H
#define WSRCTL_SIMULATE_H

/** simulate_main - wsrctl simulate, see wsrctl(1); returns the exit status */
int simulate_main(int argc, char **argv);

#endif
