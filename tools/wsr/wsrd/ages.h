/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory by idle age in a few fixed cells, for pictures: the same ones all the
 * time, whatever bins a guest was asked for. No I/O.
 */
#ifndef WSRD_AGES_H
#define WSRD_AGES_H

#include <stdint.h>

#include "../lib/curve.h"

/* Below 1 s, below 2 s, 4 s, ... 65536 s, and all that is older */
#define AGES_BOUNDS	17
#define AGES_CELLS	(AGES_BOUNDS + 1)

struct json_object;

/** struct ages - bytes by kind and cell */
struct ages {
	uint64_t bytes[WSR_NR_KINDS][AGES_CELLS];
};

/** ages_of_curve - what a curve says of the cells */
void ages_of_curve(struct ages *ages, const struct wsr_curve *curve);

/* Most bytes that ages_pack() can need */
#define AGES_PACKED	(WSR_NR_KINDS * AGES_CELLS * 10)

/**
 * ages_pack - in few bytes, in steps of 64 KiB
 * @packed:	AGES_PACKED bytes
 * Return: how many were used.
 */
unsigned int ages_pack(const struct ages *ages, unsigned char *packed);

/**
 * ages_unpack - the reverse
 * Return: 0, or -1 if these are not ages.
 */
int ages_unpack(struct ages *ages, const unsigned char *packed,
		unsigned int size);

/** ages_json - [[swap-backed cells], [file-backed cells]] */
struct json_object *ages_json(const struct ages *ages);

/** ages_bounds_json - the upper bounds of all but the last cell, in seconds */
struct json_object *ages_bounds_json(void);

#endif
