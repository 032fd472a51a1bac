// SPDX-License-Identifier: GPL-2.0
/*
 * Memory by idle age in a few fixed cells. No I/O.
 */
#include <json-c/json.h>

#include "ages.h"

#define STEP_SHIFT	16	/* 64 KiB: finer than a guest's samples */
#define HALF_STEP	(1 << (STEP_SHIFT - 1))

/* Each cell is as wide as two of the curve's grid. */
_Static_assert(2 * (AGES_BOUNDS - 1) == WSR_GRID_MAX_X,
	       "the cells must end where the grid ends");

void ages_of_curve(struct ages *ages, const struct wsr_curve *curve)
{
	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		double before = 0;

		for (int i = 0; i < AGES_BOUNDS; i++) {
			double younger = curve->younger[kind][2 * i];

			ages->bytes[kind][i] = younger - before;
			before = younger;
		}
		ages->bytes[kind][AGES_BOUNDS] = curve->total[kind] - before;
	}
}

unsigned int ages_pack(const struct ages *ages, unsigned char *packed)
{
	unsigned int size = 0;

	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		for (int i = 0; i < AGES_CELLS; i++) {
			uint64_t steps = (ages->bytes[kind][i] + HALF_STEP) >>
					 STEP_SHIFT;

			/* Seven bits a byte, the lowest first */
			for (; steps >= 0x80; steps >>= 7)
				packed[size++] = steps | 0x80;
			packed[size++] = steps;
		}
	}
	return size;
}

int ages_unpack(struct ages *ages, const unsigned char *packed,
		unsigned int size)
{
	unsigned int at = 0;

	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		for (int i = 0; i < AGES_CELLS; i++) {
			uint64_t steps = 0;
			unsigned int shift = 0;

			do {
				if (at == size || shift > 42)
					return -1;
				steps |= (uint64_t)(packed[at] & 0x7f) << shift;
				shift += 7;
			} while (packed[at++] & 0x80);
			ages->bytes[kind][i] = (steps & (UINT64_MAX >> 17)) <<
					       STEP_SHIFT;
		}
	}
	return at == size ? 0 : -1;
}

struct json_object *ages_json(const struct ages *ages)
{
	struct json_object *kinds = json_object_new_array();

	for (int kind = 0; kind < WSR_NR_KINDS; kind++) {
		struct json_object *cells = json_object_new_array();

		for (int i = 0; i < AGES_CELLS; i++)
			json_object_array_add(cells,
				json_object_new_uint64(ages->bytes[kind][i]));
		json_object_array_add(kinds, cells);
	}
	return kinds;
}

struct json_object *ages_bounds_json(void)
{
	struct json_object *bounds = json_object_new_array();

	for (int i = 0; i < AGES_BOUNDS; i++)
		json_object_array_add(bounds,
			json_object_new_int64(INT64_C(1) << i));
	return bounds;
}
