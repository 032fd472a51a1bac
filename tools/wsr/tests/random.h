/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random numbers for tests: the same for the same seed, on every machine.
 */
#ifndef WSR_TESTS_RANDOM_H
#define WSR_TESTS_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct random {
	uint64_t state;
};

/* xorshift64* (Vigna, 2016) behind a step that makes any seed good */
static inline void random_seed(struct random *random, uint64_t seed)
{
	random->state = (seed + 1) * 0x9e3779b97f4a7c15u;
	if (!random->state)
		random->state = 1;
}

static inline uint64_t random_bits(struct random *random)
{
	uint64_t x = random->state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	random->state = x;
	return x * 0x2545f4914f6cdd1du;
}

/* From 0 to below @limit */
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
	return random_bits(random) % limit;
}

/* From 0 to below 1 */
static inline double random_part(struct random *random)
{
	return (random_bits(random) >> 11) * 0x1p-53;
}

static inline bool random_chance(struct random *random, double part)
{
	return random_part(random) < part;
}

/* WSR_TEST_SEED, or the same as always; printed, so that it can be repeated */
static inline uint64_t random_test_seed(void)
{
	const char *given = getenv("WSR_TEST_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 20261120;

	printf("# WSR_TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

#endif
