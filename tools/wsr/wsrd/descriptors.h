/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How many file descriptors a daemon may have: some for each VM.
 */
#ifndef WSRD_DESCRIPTORS_H
#define WSRD_DESCRIPTORS_H

/**
 * descriptors_raise_limit - as many as the system allows
 *
 * A shell gives 1024. Before the first poll or select with many: nothing here
 * may use select(2). Tells in the log if it fails.
 */
void descriptors_raise_limit(void);

#endif
